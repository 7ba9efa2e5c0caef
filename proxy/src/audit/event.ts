import { group } from "@kube-connector/core";
import type { Caller } from "../authenticate.ts";
import type { RequestInfo } from "../request-info.ts";
import { asciiJson, Line } from "./line.ts";
import type { AuditRecord } from "./record.ts";

// One record → one line in the form of audit.k8s.io/v1 Event, so that tools for API servers' audit logs read it. What
// that form has no field for is in annotations of ours, all of them texts. Each request pays for its line, so it is put
// together as bytes, of ASCII alone, and what requests have in common is made once.

const own = `proxy.${group}/`;

/** Most characters of a path; what is longer is cut and marked. */
const pathLimit = 4096;

/** Records → lines of ASCII, each with its line end and good until the next one. `now` in milliseconds since 1970, with a fraction. */
export function createAuditFormat(): (record: AuditRecord, now: number) => Line {
  const line = new Line();
  const addTimes = createTimes(line);
  let origin: Origin | undefined;

  return (record, now) => {
    // Most requests come from where the one before did.
    if (origin === undefined || !isFrom(origin, record)) origin = originOf(record);
    const { info, path } = record;
    line.clear();
    line.add(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"`);
    line.add(record.id);
    line.add(stages[record.stage]);
    line.addEscaped(path.length > pathLimit ? `${path.slice(0, pathLimit)}...` : path);
    line.add(`","verb":"`);
    line.addEscaped(info?.verb ?? record.method.toLowerCase());
    line.add(origin.before);
    addObjectRef(line, info);
    addResponseStatus(line, record);
    addTimes(now - record.milliseconds, now);
    line.add(origin.after);
    addFacts(line, record);
    line.add(`"}}\n`);
    return line;
  };
}

const stages = {
  ResponseStarted: `","stage":"ResponseStarted","requestURI":"`,
  ResponseComplete: `","stage":"ResponseComplete","requestURI":"`,
};

/** Where requests come from, and the parts of their lines that say so, from quote to quote. */
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
  const ips = remote === "" ? "" : asciiJson(plainAddress(remote));
  const before = `","user":${userOf(caller)},"sourceIPs":[${ips}]`;
  const pod = caller?.pod;
  const after =
    `Z","annotations":{"${own}door":"${door}"` +
    note("connector.namespace", connector?.namespace) +
    note("connector.name", connector?.name) +
    note("connector.uid", connector?.uid) +
    (pod === undefined ? "" : note("pod.namespace", caller?.namespace)) +
    note("pod.name", pod?.name) +
    note("pod.uid", pod?.uid) +
    note("protocol", protocol) +
    `,"${own}method":"`;
  return { caller, connector, door, remote, protocol, before, after };
}

function userOf(caller: Caller | undefined): string {
  if (caller === undefined) return "{}";
  const { user: username, uid, groups } = caller;
  return asciiJson({ username, uid, groups });
}

function addObjectRef(line: Line, info: RequestInfo | undefined): void {
  if (info?.isResource !== true) return;
  line.add(`,"objectRef":{"resource":"`);
  line.addEscaped(info.resource);
  addSome(line, `","namespace":"`, info.namespace);
  addSome(line, `","name":"`, info.name);
  addSome(line, `","apiGroup":"`, info.apiGroup);
  addSome(line, `","apiVersion":"`, info.apiVersion);
  addSome(line, `","subresource":"`, info.subresource);
  line.add(`"}`);
}

/** What there is of it, after the end of what was before it and its name. */
function addSome(line: Line, before: string, text: string | undefined): void {
  if (text === undefined || text === "") return;
  line.add(before);
  line.addEscaped(text);
}

function addResponseStatus(line: Line, { code, reason, message }: AuditRecord): void {
  if (code === 0) return;
  if (code === 200 && message === undefined) {
    line.add(`,"responseStatus":{"metadata":{},"code":200}`);
    return;
  }
  line.add(`,"responseStatus":{"metadata":{},`);
  if (message !== undefined)
    line.add(`"status":"Failure","message":${asciiJson(message)},"reason":${asciiJson(reason ?? "")},`);
  line.add(`"code":${code}}`);
}

const decisions = {
  allow: `","${own}decision":"allow","${own}bytesIn":"`,
  deny: `","${own}decision":"deny","${own}bytesIn":"`,
  error: `","${own}decision":"error","${own}bytesIn":"`,
};
const named = (name: string) => `","${own}${name}":"`;
const names = {
  bytesOut: named("bytesOut"),
  seconds: named("seconds"),
  addedSeconds: named("addedSeconds"),
  upgrade: named("upgrade"),
  policy: named("policy"),
  reason: named("reason"),
  targetAuditId: named("targetAuditID"),
  traceparent: named("traceparent"),
};

/** The annotations that are each request's own, from the value of the first to that of the last. */
function addFacts(line: Line, record: AuditRecord): void {
  line.addEscaped(record.method);
  line.add(decisions[record.decision]);
  line.add(String(record.bytesIn));
  line.add(names.bytesOut);
  line.add(String(record.bytesOut));
  line.add(names.seconds);
  addSeconds(line, record.milliseconds);
  if (record.addedMilliseconds !== undefined) {
    line.add(names.addedSeconds);
    addSeconds(line, record.addedMilliseconds);
  }
  addSome(line, names.upgrade, record.upgrade);
  addSome(line, names.policy, record.policy);
  addSome(line, names.reason, record.reason);
  addSome(line, names.targetAuditId, record.targetAuditId);
  addSome(line, names.traceparent, record.traceparent);
  const { annotations } = record;
  if (annotations !== undefined)
    for (const [name, value] of Object.entries(annotations)) addSome(line, named(name), value);
}

function note(name: string, value: string | undefined): string {
  return value === undefined || value === "" ? "" : `,"${own}${name}":${asciiJson(value)}`;
}

/** With six digits after the point. */
function addSeconds(line: Line, milliseconds: number): void {
  const micros = Math.max(0, Math.round(milliseconds * 1000));
  const whole = Math.floor(micros / 1_000_000);
  line.add(whole === 0 ? "0." : `${whole}.`);
  line.addSixDigits(micros - whole * 1_000_000);
}

/** Adds two times, but for the last one's Z: milliseconds since 1970 as metav1.MicroTime, whose readers want exactly six digits. */
function createTimes(line: Line): (received: number, now: number) => void {
  /** The second that it was last, and what stands before its fraction. */
  let second = Number.NaN;
  let receivedAt = "";
  let stageAt = "";
  return (received, now) => {
    const [first, last] = [Math.floor(received * 1000), Math.floor(now * 1000)];
    const [firstSecond, lastSecond] = [Math.floor(first / 1_000_000), Math.floor(last / 1_000_000)];
    if (lastSecond !== second) {
      second = lastSecond;
      receivedAt = `,"requestReceivedTimestamp":"${wholeSecond(second)}`;
      stageAt = `Z","stageTimestamp":"${wholeSecond(second)}`;
    }
    line.add(firstSecond === second ? receivedAt : `,"requestReceivedTimestamp":"${wholeSecond(firstSecond)}`);
    line.addSixDigits(first - firstSecond * 1_000_000);
    line.add(stageAt);
    line.addSixDigits(last - second * 1_000_000);
  };
}

/** Seconds since 1970 as far as the point. */
function wholeSecond(second: number): string {
  return new Date(second * 1000).toISOString().slice(0, -4);
}

/** An IPv4 client of a socket that takes both kinds, without its prefix. */
function plainAddress(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}
