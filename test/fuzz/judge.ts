import type { ResolvedConnector } from "@kube-connector/core";
import type { AuditRecord } from "../../proxy/src/audit/record.ts";
import { type AnswerInput, bytesFor, type Input, methodOf, type RequestsInput } from "./input.ts";
import { type Run, secondAnswer, type Written } from "./memory-proxy.ts";
import { type OwnMessage, type OwnReading, readOwn } from "./own-reading.ts";
import type { Connection, Lines, Message, Reader, Reading } from "./reading.ts";

// What must hold for whatever the proxy carries. Each rule has a name, by which a finding is known while it is minimised.

/** Something that does not hold. */
export interface Finding {
  rule: string;
  /** What was read, by whom. */
  details: string;
}

export interface Judge {
  /** The first rule that a run breaks; undefined when it breaks none. */
  judge(input: Input, run: Run): Promise<Finding | undefined>;
}

/** The request to the target was answered, whatever became of the answer. */
const wasAnswered = (record: AuditRecord) => record.addedMilliseconds !== undefined;

/** Whether an answer passed whole. */
export function hasPassed(record: AuditRecord): boolean {
  return record.decision === "allow" && record.reason === undefined;
}

/** Headers by which framing, credentials or identity could be meant; none of them may reach a target. */
const dropped =
  /^(?:proxy-.*|x-remote-.*|x-forwarded-.*|x-original-.*|impersonate-.*|cookie|te|trailer|keep-alive|forwarded|http2-settings)$/;
const notInTrailers = /^(?:host|content-length|transfer-encoding|authorization|connection|upgrade|expect)$/;

/** `read` is the framer that is judged. */
export function createJudge(readers: readonly Reader[], connector: ResolvedConnector, read = readOwn): Judge {
  const known = new Map<string, Promise<readonly Reading[]>>();

  /** What each reader reads; many inputs end in the same bytes. */
  function readAll(connection: Connection): Promise<readonly Reading[]> {
    const key = `${connection.kind} ${connection.method} ${connection.cut} ${connection.bytes}`;
    let readings = known.get(key);
    if (readings === undefined) {
      if (known.size > 5_000) known.clear();
      readings = Promise.all(readers.map((reader) => reader.read(connection)));
      known.set(key, readings);
    }
    return readings;
  }

  /** A finding where a reader does not read the very messages that the framer reads. */
  async function sameReadings(connection: Connection, own: OwnReading): Promise<Finding | undefined> {
    const readings = await readAll(connection);
    const wanted = textOf(own);
    const last = own.messages.at(-1);
    const trailers = JSON.stringify(readings[0]?.messages.map(trailersOf));
    for (const [i, reading] of readings.entries()) {
      const agrees = textOf(reading) === wanted && (last?.complete === false || reading.refused === "");
      const same = agrees && JSON.stringify(reading.messages.map(trailersOf)) === trailers;
      if (same || (readers[i]?.lenient === true && endsEarly(own, reading))) continue;
      const rule = `${connection.kind} are not read by ${readers[i]?.name} as they are by the proxy`;
      return {
        rule,
        details: tell(connection, [["the proxy", own], ...readers.map((one, i) => [one.name, readings[i]] as const)]),
      };
    }
    return undefined;
  }

  async function judgeRequests(input: RequestsInput, run: Run): Promise<Finding | undefined> {
    const answered = run.records.filter(wasAnswered);
    const passed: OwnMessage[] = [];
    const sent = bytesFor(input, connector);
    for (const { bytes } of run.upstream) {
      const connection: Connection = { kind: "requests", method: "", bytes, cut: false };
      const own = read(connection);
      if (own.left !== "") return found("bytes go upstream that are in no request", connection, own);
      for (const message of own.messages) {
        if (!message.complete && message !== own.messages.at(-1))
          return found("half a request is followed by another", connection, own);
        if (!sent.includes(message.raw)) return found("a body is not the bytes that the client sent", connection, own);
        const record = answered[0];
        if (record !== undefined && isOf(record, message)) {
          answered.shift();
          passed.push(message);
        } else if (message.complete)
          return found("a request goes upstream as another one than was judged", connection, { own, record });
      }
      const different = await sameReadings(connection, own);
      if (different !== undefined) return different;
      for (const reading of await readAll(connection)) {
        const wrong = reading.messages.flatMap((message) => wrongLines(message, connector));
        if (wrong.length > 0) return found("a header reaches the target that may not", connection, wrong);
      }
    }
    const record = answered[0];
    if (record !== undefined) return found("a request was judged that never went upstream", run.client, record);
    // The requests before the first that was refused: what comes behind a refusal is nobody's.
    const refused = run.records.findIndex((one) => !wasAnswered(one));
    return judgeSent(sent, refused < 0 ? passed : passed.slice(0, refused));
  }

  /** What passed must be what the client said, by all who read the client's own bytes. */
  async function judgeSent(bytes: string, passed: readonly OwnMessage[]): Promise<Finding | undefined> {
    const connection: Connection = { kind: "requests", method: "", bytes, cut: false };
    // Behind a request that asks for another protocol node:http reads no more; the proxy goes on where it took no notice.
    const readable = /^upgrade:/im.test(bytes) ? passed.slice(0, 1) : passed;
    const wanted = readable.filter(({ complete }) => complete).map(gistOf);
    if (wanted.length === 0) return undefined;
    for (const [i, { messages, refused }] of (await readAll(connection)).entries()) {
      const gists = messages.slice(0, wanted.length).map(gistOf);
      if (JSON.stringify(gists) === JSON.stringify(wanted)) continue;
      return found(`requests pass that ${readers[i]?.name} reads otherwise`, connection, { passed, messages, refused });
    }
    return undefined;
  }

  async function judgeAnswer(input: AnswerInput, run: Run): Promise<Finding | undefined> {
    const method = methodOf(input);
    const connection: Connection = { kind: "answer", method, ...run.client };
    const own = read(connection);
    const [message] = own.messages;
    if (message?.status === 101) return judgeSwitch(input, own, connection);
    const [record] = run.records;
    if (record === undefined) return found("a request has no end", connection, own);
    if (run.second !== undefined && (run.second.bytes !== secondAnswer || run.second.cut)) {
      return found("the answer to the second request is not its own", connection, run.second);
    }
    if (record.decision !== "allow" && record.code !== 502) return found("a bad answer is no 502", connection, record);
    if (record.decision === "allow" && !hasPassed(record)) return judgeBroken(connection);
    if (own.left !== "" || run.client.cut) return found("bytes follow an answer, or break it off", connection, own);
    if (message?.status !== record.code || !message.complete)
      return found("an answer has no end", connection, { own, record });
    const different = await sameReadings(connection, own);
    if (different !== undefined || !hasPassed(record)) return different;
    if (message.raw.length !== record.bytesOut)
      return found("an answer's body is not what was counted", connection, record);
    return judgeSource(input, own, message);
  }

  /** A bad answer whose head was out: nobody may take it for whole. */
  async function judgeBroken(connection: Connection): Promise<Finding | undefined> {
    if (!connection.cut) return found("an answer that broke off has a clean end", connection, undefined);
    const readings = await readAll(connection);
    const whole = readings.find(({ messages }, i) => !readers[i]?.lenient && messages.some(({ complete }) => complete));
    return whole === undefined ? undefined : found("an answer that broke off is read as whole", connection, whole);
  }

  /** What passed must be what the target said, by all who read the target's own bytes. */
  async function judgeSource(input: AnswerInput, own: OwnReading, message: OwnMessage): Promise<Finding | undefined> {
    const connection: Connection = {
      kind: "answer",
      method: methodOf(input),
      bytes: bytesFor(input, connector),
      cut: false,
    };
    // Where the proxy takes lines away that readers disagree on (headers.ts), what passes is what counts.
    if (own.interim.length > 0 || message.status === 204) return undefined;
    const wanted = JSON.stringify([message.status, message.body, message.complete]);
    for (const [i, { messages }] of (await readAll(connection)).entries()) {
      const [read] = messages;
      if (JSON.stringify([read?.status, read?.body, read?.complete]) === wanted) continue;
      return found(`an answer passes that ${readers[i]?.name} reads otherwise`, connection, { own, read });
    }
    return undefined;
  }

  return {
    async judge(input, run) {
      try {
        return await (input.kind === "requests" ? judgeRequests(input, run) : judgeAnswer(input, run));
      } catch (error) {
        return found("the proxy sends what it would refuse itself", run.client, String(error));
      }
    },
  };
}

function judgeSwitch(input: AnswerInput, own: OwnReading, connection: Connection): Finding | undefined {
  if (input.asked === "upgrade" && input.bytes.endsWith(own.left)) return undefined;
  return found("a switch of protocols that was not asked for, or loses bytes", connection, own);
}

function isOf(record: AuditRecord, { method, target, raw }: OwnMessage): boolean {
  return record.method === method && record.path === target.split("?", 1)[0] && record.bytesIn === raw.length;
}

function wrongLines({ headers, trailers }: Message, { token, target }: ResolvedConnector): Lines {
  const wrong = headers.filter(([name]) => dropped.test(name));
  wrong.push(...trailers.filter(([name]) => dropped.test(name) || notInTrailers.test(name)));
  const credentials = headers.filter(([name]) => name === "authorization");
  if (credentials.length !== 1 || credentials[0]?.[1] !== `Bearer ${token?.reveal()}`) wrong.push(...credentials);
  const hosts = headers.filter(([name]) => name === "host");
  if (hosts.length !== 1 || hosts[0]?.[1] !== target.hostHeader) wrong.push(...hosts);
  return wrong;
}

/** What says nothing of a message, and is not kept by all readers: a list of trailers, and how an answer's connection goes on. */
function isOfConnection(name: string, { status }: { status: number }): boolean {
  return name === "trailer" || (name === "connection" && status !== 0);
}

/** A lenient reader takes the CR of the last line end for all of it. It may, as long as that is the last byte. */
function endsEarly(own: OwnReading, { interim, messages, refused }: Reading): boolean {
  if (own.messages.at(-1)?.complete !== false || refused !== "") return false;
  return (
    textOf({ interim, messages: messages.map((one, i) => ({ ...one, complete: i < messages.length - 1 })) }) ===
    textOf(own)
  );
}

/** All that readers must agree on, but trailers. Of half a message nobody needs to agree on the half. */
function textOf({
  interim,
  messages,
}: Pick<Reading, "interim"> & { messages: readonly (Message | OwnMessage)[] }): string {
  return JSON.stringify([
    interim,
    messages.map((message) => [
      message.method,
      message.target,
      message.status,
      message.headers.filter(([name]) => !isOfConnection(name, message)).map(comparable),
      message.complete ? message.body : "",
      message.complete,
    ]),
  ]);
}

/** The name of a coding has no case. */
function comparable([name, value]: readonly [string, string]): readonly [string, string] {
  return [name, name === "transfer-encoding" ? value.toLowerCase() : value];
}

const gistOf = ({ method, target, body, complete }: Message | OwnMessage) => [method, target, body, complete];

const trailersOf = ({ trailers, complete }: Message) => (complete ? trailers : []);

function found(rule: string, connection: Connection | Written, what: unknown): Finding {
  return { rule, details: tell(connection, [["read", what]]) };
}

function tell(connection: object, readings: readonly (readonly [string, unknown])[]): string {
  return [["bytes", connection] as const, ...readings]
    .map(([who, what]) => `${who}: ${JSON.stringify(what)}`)
    .join("\n");
}
