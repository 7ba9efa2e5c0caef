import { group } from "@kube-connector/core";
import type { Caller } from "../authenticate.ts";
import type { RequestInfo } from "../request-info.ts";
import { asciiBytes, asciiJson, Line } from "./line.ts";
import type { AuditRecord } from "./record.ts";

// One record → one line in the form of audit.k8s.io/v1 Event, so that tools for API servers' audit logs read it. What
// that form has no field for is in annotations of ours, all of them texts. Each request pays for its line, so it is put
// together as bytes, of ASCII alone, and what requests have in common is made once.

const own = `proxy.${group}/`;

/** Most characters of a path; what is longer is cut and marked. */
const pathLimit = 4096;

/** Client addresses whose lines' common parts are kept. */
const originLimit = 256;

/** Records → lines of ASCII, each with its line end and good until the next one. `now` in milliseconds since 1970, with a fraction. */
export function createAuditFormat(): (record: AuditRecord, now: number) => Line {
  const line = new Line();
  const addTimes = createTimes(line);
  const ofCallers = new Map<string, Origin>();
  const ofTunnels = new Map<string, Origin>();

  /** Most requests come from where the one before from that address did; in between there may be the tunnels that they come by. */
  const findOrigin = (record: AuditRecord): Origin => {
    const origins = record.caller === undefined ? ofTunnels : ofCallers;
    const last = origins.get(record.remote);
    if (last !== undefined && isFrom(last, record)) return last;
    if (origins.size >= originLimit) origins.clear();
    const origin = originOf(record);
    origins.set(record.remote, origin);
    return origin;
  };

  return (record, now) => {
    const origin = findOrigin(record);
    const { info, path } = record;
    line.clear();
    line.addBytes(beginning);
    line.add(record.id);
    line.addBytes(stages[record.stage]);
    line.addEscaped(path.length > pathLimit ? `${path.slice(0, pathLimit)}...` : path);
    line.add(`","verb":"`);
    line.addEscaped(info?.verb ?? record.method.toLowerCase());
    line.addBytes(origin.before);
    addObjectRef(line, info);
    addResponseStatus(line, record);
    addTimes(now - record.milliseconds, now);
    line.addBytes(origin.after);
    addFacts(line, record);
    line.add(`"}}\n`);
    return line;
  };
}

const beginning = asciiBytes(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"`);
const stages = {
  ResponseStarted: asciiBytes(`","stage":"ResponseStarted","requestURI":"`),
  ResponseComplete: asciiBytes(`","stage":"ResponseComplete","requestURI":"`),
};

/** Where requests from one address come from, and the parts of their lines that say so, from quote to quote. */
interface Origin extends Pick<AuditRecord, "caller" | "connector" | "door" | "protocol"> {
  before: Buffer;
  after: Buffer;
}

function isFrom(origin: Origin, { caller, connector, door, protocol }: AuditRecord): boolean {
  return (
    origin.caller === caller && origin.connector === connector && origin.door === door && origin.protocol === protocol
  );
}

function originOf({ caller, connector, door, remote, protocol }: AuditRecord): Origin {
  const ips = remote === "" ? "" : asciiJson(plainAddress(remote));
  const before = asciiBytes(`","user":${userOf(caller)},"sourceIPs":[${ips}]`);
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
  return { caller, connector, door, protocol, before, after: asciiBytes(after) };
}

function userOf(caller: Caller | undefined): string {
  if (caller === undefined) return "{}";
  const { user: username, uid, groups } = caller;
  return asciiJson({ username, uid, groups });
}

function addObjectRef(line: Line, info: RequestInfo | undefined): void {
  if (info?.isResource !== true) return;
  line.addBytes(refs.resource);
  line.addEscaped(info.resource);
  addSome(line, refs.namespace, info.namespace);
  addSome(line, refs.name, info.name);
  addSome(line, refs.apiGroup, info.apiGroup);
  addSome(line, refs.apiVersion, info.apiVersion);
  addSome(line, refs.subresource, info.subresource);
  line.add(`"}`);
}

const refs = {
  resource: asciiBytes(`,"objectRef":{"resource":"`),
  namespace: asciiBytes(`","namespace":"`),
  name: asciiBytes(`","name":"`),
  apiGroup: asciiBytes(`","apiGroup":"`),
  apiVersion: asciiBytes(`","apiVersion":"`),
  subresource: asciiBytes(`","subresource":"`),
};

/** What there is of it, after the end of what was before it and its name. */
function addSome(line: Line, before: Buffer, text: string | undefined): void {
  if (text === undefined || text === "") return;
  line.addBytes(before);
  line.addEscaped(text);
}

const good = asciiBytes(`,"responseStatus":{"metadata":{},"code":200}`);

function addResponseStatus(line: Line, { code, reason, message }: AuditRecord): void {
  if (code === 0) return;
  if (code === 200 && message === undefined) {
    line.addBytes(good);
    return;
  }
  line.add(`,"responseStatus":{"metadata":{},`);
  if (message !== undefined)
    line.add(`"status":"Failure","message":${asciiJson(message)},"reason":${asciiJson(reason ?? "")},`);
  line.add(`"code":${code}}`);
}

const decisions = {
  allow: asciiBytes(`","${own}decision":"allow","${own}bytesIn":"`),
  deny: asciiBytes(`","${own}decision":"deny","${own}bytesIn":"`),
  error: asciiBytes(`","${own}decision":"error","${own}bytesIn":"`),
};
const named = (name: string) => asciiBytes(`","${own}${name}":"`);
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
  line.addBytes(decisions[record.decision]);
  line.add(String(record.bytesIn));
  line.addBytes(names.bytesOut);
  line.add(String(record.bytesOut));
  line.addBytes(names.seconds);
  addSeconds(line, record.milliseconds);
  if (record.addedMilliseconds !== undefined) {
    line.addBytes(names.addedSeconds);
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
  let receivedAt = asciiBytes("");
  let stageAt = asciiBytes("");
  return (received, now) => {
    const [first, last] = [Math.floor(received * 1000), Math.floor(now * 1000)];
    const [firstSecond, lastSecond] = [Math.floor(first / 1_000_000), Math.floor(last / 1_000_000)];
    if (lastSecond !== second) {
      second = lastSecond;
      receivedAt = receivedIn(second);
      stageAt = asciiBytes(`Z","stageTimestamp":"${wholeSecond(second)}`);
    }
    line.addBytes(firstSecond === second ? receivedAt : receivedIn(firstSecond));
    line.addSixDigits(first - firstSecond * 1_000_000);
    line.addBytes(stageAt);
    line.addSixDigits(last - second * 1_000_000);
  };
}

function receivedIn(second: number): Buffer {
  return asciiBytes(`,"requestReceivedTimestamp":"${wholeSecond(second)}`);
}

/** Seconds since 1970 as far as the point. */
function wholeSecond(second: number): string {
  return new Date(second * 1000).toISOString().slice(0, -4);
}

/** An IPv4 client of a socket that takes both kinds, without its prefix. */
function plainAddress(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}
