import { group } from "@kube-connector/core";
import type { Caller } from "../authenticate.ts";
import type { RequestInfo } from "../request-info.ts";
import type { AuditRecord } from "./record.ts";

// One record → one line in the form of audit.k8s.io/v1 Event, so that tools for API servers' audit logs read it. What
// that form has no field for is in annotations of ours, all of them texts. Each request pays for its line, so it is put
// together as text: half the time of JSON.stringify of an object.

const own = `proxy.${group}/`;

/** Most characters of a path; what is longer is cut and marked. */
const pathLimit = 4096;

/** Records → lines, each with its line end. `now` in milliseconds since 1970, with a fraction. */
export function createAuditFormat(): (record: AuditRecord, now: number) => string {
  const microTime = createMicroTime();
  const callers = new WeakMap<Caller, { user: string; pod: string }>();
  const connectors = new WeakMap<NonNullable<AuditRecord["connector"]>, string>();

  function callerParts(caller: Caller | undefined): { user: string; pod: string } {
    if (caller === undefined) return { user: "{}", pod: "" };
    const known = callers.get(caller);
    if (known !== undefined) return known;
    const { user: username, uid, groups, namespace = "", pod } = caller;
    const parts = {
      user: JSON.stringify({ username, uid, groups }),
      pod:
        pod === undefined
          ? ""
          : note("pod.namespace", namespace) + note("pod.name", pod.name) + note("pod.uid", pod.uid),
    };
    callers.set(caller, parts);
    return parts;
  }

  function connectorPart(connector: AuditRecord["connector"]): string {
    if (connector === undefined) return "";
    const known = connectors.get(connector);
    if (known !== undefined) return known;
    const { namespace, name, uid } = connector;
    const part = note("connector.namespace", namespace) + note("connector.name", name) + note("connector.uid", uid);
    connectors.set(connector, part);
    return part;
  }

  return (record, now) => {
    const { user, pod } = callerParts(record.caller);
    const { info, path } = record;
    const uri = path.length > pathLimit ? `${path.slice(0, pathLimit)}...` : path;
    const verb = info?.verb ?? record.method.toLowerCase();
    const ips = record.remote === "" ? "" : quoted(plainAddress(record.remote));
    const received = microTime(now - record.milliseconds);
    return (
      `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":${quoted(record.id)}` +
      `,"stage":"${record.stage}","requestURI":${quoted(uri)},"verb":${quoted(verb)},"user":${user}` +
      `,"sourceIPs":[${ips}]${objectRef(info)}${responseStatus(record)}` +
      `,"requestReceivedTimestamp":"${received}","stageTimestamp":"${microTime(now)}"` +
      `,"annotations":{"${own}door":"${record.door}"${connectorPart(record.connector)}${pod}${facts(record)}}}\n`
    );
  };
}

function objectRef(info: RequestInfo | undefined): string {
  if (info?.isResource !== true) return "";
  const { resource, namespace, name, apiGroup, apiVersion, subresource } = info;
  const some = (key: string, text: string) => (text === "" ? "" : `,"${key}":${quoted(text)}`);
  return (
    `,"objectRef":{"resource":${quoted(resource)}${some("namespace", namespace)}${some("name", name)}` +
    `${some("apiGroup", apiGroup)}${some("apiVersion", apiVersion)}${some("subresource", subresource)}}`
  );
}

function responseStatus({ code, reason, message }: AuditRecord): string {
  if (code === 0) return "";
  if (message === undefined) return `,"responseStatus":{"metadata":{},"code":${code}}`;
  const said = `"message":${quoted(message)},"reason":${quoted(reason ?? "")}`;
  return `,"responseStatus":{"metadata":{},"status":"Failure",${said},"code":${code}}`;
}

/** The annotations that are each request's own. */
function facts(record: AuditRecord): string {
  let text =
    `${note("method", record.method)},"${own}decision":"${record.decision}"` +
    `,"${own}bytesIn":"${record.bytesIn}","${own}bytesOut":"${record.bytesOut}"` +
    `,"${own}seconds":"${seconds(record.milliseconds)}"`;
  if (record.addedMilliseconds !== undefined) text += `,"${own}addedSeconds":"${seconds(record.addedMilliseconds)}"`;
  text +=
    note("protocol", record.protocol) +
    note("upgrade", record.upgrade) +
    note("policy", record.policy) +
    note("reason", record.reason);
  text += note("targetAuditID", record.targetAuditId) + note("traceparent", record.traceparent);
  if (record.annotations === undefined) return text;
  for (const [name, value] of Object.entries(record.annotations)) text += note(name, value);
  return text;
}

function note(name: string, value: string | undefined): string {
  return value === undefined || value === "" ? "" : `,"${own}${name}":${quoted(value)}`;
}

/** A text as JSON. Most need no escape, and for those this is far cheaper. */
function quoted(text: string): string {
  return /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/.test(text) ? `"${text}"` : JSON.stringify(text);
}

function seconds(milliseconds: number): string {
  return (Math.max(0, milliseconds) / 1000).toFixed(6);
}

/** Milliseconds since 1970 → metav1.MicroTime, whose readers want exactly six digits. The second is remembered. */
function createMicroTime(): (milliseconds: number) => string {
  let second = Number.NaN;
  let text = "";
  return (milliseconds) => {
    const micros = Math.floor(milliseconds * 1000);
    const whole = Math.floor(micros / 1_000_000);
    if (whole !== second) {
      second = whole;
      text = new Date(whole * 1000).toISOString().slice(0, -4);
    }
    return `${text}${String(micros - whole * 1_000_000).padStart(6, "0")}Z`;
  };
}

/** An IPv4 client of a socket that takes both kinds, without its prefix. */
function plainAddress(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}
