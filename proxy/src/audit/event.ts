import { group } from "@kube-connector/core";
import type { Caller } from "../authenticate.ts";
import type { RequestInfo } from "../request-info.ts";
import type { AuditRecord } from "./record.ts";

// One record → one line in the form of audit.k8s.io/v1 Event, so that tools for API servers' audit logs read it. What
// that form has no field for is in annotations of ours, all of them texts. Each request pays for its line, so it is put
// together as text, half the time of JSON.stringify of an object, of ASCII alone, which is written at a third of the cost, and
// of as few pieces as can be.

const own = `proxy.${group}/`;

/** Most characters of a path; what is longer is cut and marked. */
const pathLimit = 4096;

/** Records → lines of ASCII, each with its line end. `now` in milliseconds since 1970, with a fraction. */
export function createAuditFormat(): (record: AuditRecord, now: number) => string {
  const microTime = createMicroTime();
  let origin: Origin | undefined;

  return (record, now) => {
    // Most requests come from where the one before did.
    if (origin === undefined || !isFrom(origin, record)) origin = originOf(record);
    const { info, path } = record;
    const uri = path.length > pathLimit ? `${path.slice(0, pathLimit)}...` : path;
    const verb = info?.verb ?? record.method.toLowerCase();
    return (
      `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"${record.id}` +
      `","stage":"${record.stage}","requestURI":${quoted(uri)},"verb":${quoted(verb)}${origin.before}` +
      `${objectRef(info)}${responseStatus(record)},"requestReceivedTimestamp":"${microTime(now - record.milliseconds)}` +
      `","stageTimestamp":"${microTime(now)}"${origin.after}${facts(record)}}}\n`
    );
  };
}

/** Where requests come from, and the parts of their lines that say so. */
interface Origin extends Pick<AuditRecord, "caller" | "connector" | "door" | "remote" | "protocol"> {
  before: string;
  after: string;
}

function isFrom(origin: Origin, { caller, connector, door, remote, protocol }: AuditRecord): boolean {
  return (
    origin.caller === caller &&
    origin.connector === connector &&
    origin.remote === remote &&
    origin.door === door &&
    origin.protocol === protocol
  );
}

function originOf({ caller, connector, door, remote, protocol }: AuditRecord): Origin {
  const ips = remote === "" ? "" : quoted(plainAddress(remote));
  const before = `,"user":${userOf(caller)},"sourceIPs":[${ips}]`;
  const pod = caller?.pod;
  const after =
    `,"annotations":{"${own}door":"${door}"` +
    note("connector.namespace", connector?.namespace) +
    note("connector.name", connector?.name) +
    note("connector.uid", connector?.uid) +
    (pod === undefined ? "" : note("pod.namespace", caller?.namespace)) +
    note("pod.name", pod?.name) +
    note("pod.uid", pod?.uid) +
    note("protocol", protocol);
  return { caller, connector, door, remote, protocol, before, after };
}

function userOf(caller: Caller | undefined): string {
  if (caller === undefined) return "{}";
  const { user: username, uid, groups } = caller;
  return ascii(JSON.stringify({ username, uid, groups }));
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
    `,"${own}method":${quoted(record.method)},"${own}decision":"${record.decision}` +
    `","${own}bytesIn":"${record.bytesIn}","${own}bytesOut":"${record.bytesOut}` +
    `","${own}seconds":"${seconds(record.milliseconds)}"`;
  const { addedMilliseconds, upgrade, policy, reason, targetAuditId, traceparent, annotations } = record;
  if (addedMilliseconds !== undefined) text += `,"${own}addedSeconds":"${seconds(addedMilliseconds)}"`;
  if (upgrade !== undefined) text += note("upgrade", upgrade);
  if (policy !== undefined) text += note("policy", policy);
  if (reason !== undefined) text += note("reason", reason);
  if (targetAuditId !== undefined) text += note("targetAuditID", targetAuditId);
  if (traceparent !== undefined) text += note("traceparent", traceparent);
  if (annotations === undefined) return text;
  for (const [name, value] of Object.entries(annotations)) text += note(name, value);
  return text;
}

function note(name: string, value: string | undefined): string {
  return value === undefined || value === "" ? "" : `,"${own}${name}":${quoted(value)}`;
}

/** A text as JSON. Most need no escape, and for those this is far cheaper. */
function quoted(text: string): string {
  return /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/.test(text) ? `"${text}"` : ascii(JSON.stringify(text));
}

/** JSON → the same in ASCII. */
function ascii(json: string): string {
  return json.replaceAll(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** With six digits after the point. */
function seconds(milliseconds: number): string {
  const micros = Math.max(0, Math.round(milliseconds * 1000));
  const whole = Math.floor(micros / 1_000_000);
  return `${whole}.${sixDigits(micros - whole * 1_000_000)}`;
}

function sixDigits(micros: number): string {
  return String(1_000_000 + micros).slice(1);
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
    return `${text}${sixDigits(micros - whole * 1_000_000)}Z`;
  };
}

/** An IPv4 client of a socket that takes both kinds, without its prefix. */
function plainAddress(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}
