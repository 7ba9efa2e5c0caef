import { parseAddress, type ResolvedConnector } from "@kube-connector/core";
import type { Door } from "@kube-connector/proxy";
import { expect } from "vitest";
// oxlint-disable-next-line import/no-relative-packages -- Go's decoder agrees with it over a million blocks
import { HpackDecoder } from "../../proxy/src/http2/hpack-decoder.ts";
import { createFrameClient, frame, literal } from "./http2.ts";
import { type Reply, type SeenRequest, startLenientTarget, valuesOf } from "./lenient-target.ts";
import { openRaw, openSecure, type RawClient } from "./raw-client.ts";
import { callerToken, connectText, startTestProxy, type TestProxyOptions, testToken } from "./test-proxy.ts";

// For the tests of the attack list: the same attack through each door and in each protocol, against a target that judges
// nothing, and beside each a request that differs from it in nothing but the evil part, which must pass.

/** How an attacker comes in. */
export interface Way {
  door: Door;
  protocol: "HTTP/1.1" | "HTTP/2";
  /** For a test's name. */
  name: string;
}

const way = (door: Door, protocol: Way["protocol"]): Way => ({ door, protocol, name: `${protocol}, ${door} door` });
export const http1Ways: readonly Way[] = [way("forward", "HTTP/1.1"), way("reverse", "HTTP/1.1")];
export const http2Ways: readonly Way[] = [way("forward", "HTTP/2"), way("reverse", "HTTP/2")];
export const ways: readonly Way[] = [...http1Ways, ...http2Ways];

/** What an attacker sends; whatever is not told is as an honest client has it. */
export interface Attempt {
  method?: string;
  path?: string;
  host?: string;
  /** The values of Authorization headers, "Bearer TOKEN" of the caller unless told. */
  authorization?: readonly string[];
  /** `Name: value`; HTTP/2 has the names in lower case. */
  lines?: readonly string[];
  body?: string;
  /** `Name: value` after the body. */
  trailers?: readonly string[];
}

export interface Answer {
  /** 0 when none came. */
  status: number;
  /** `Name: value` lines, each with its CRLF. */
  head: string;
  body: string;
  /** How it ended without one: `reset CODE`, `goaway CODE`, `closed`. */
  ended?: string;
}

/** One connection of an attacker. */
export interface Attacker {
  ask(attempt: Attempt): Promise<Answer>;
  /** The bytes inside TLS; of HTTP/1.1 alone. */
  raw: RawClient;
  close(): void;
}

/** Where an attacker comes in. */
export interface Entrance {
  forwardPort: number;
  reversePort: number;
  ca: string;
  /** What it names as its host, and at the reverse door as its SNI. */
  host: string;
  /** Its CONNECT. */
  connect: string;
}

/** Opens a connection through that door, in that protocol. */
export async function openAttacker(by: Way, at: Entrance): Promise<Attacker> {
  const { ca, host } = at;
  const protocols = by.protocol === "HTTP/2" ? ["h2"] : ["http/1.1"];
  const tunnel = by.door === "forward" ? await openRaw(at.forwardPort) : undefined;
  tunnel?.send(at.connect);
  await tunnel?.until("\r\n\r\n");
  tunnel?.socket.removeAllListeners("data");
  const client =
    tunnel === undefined
      ? await openSecure({ port: at.reversePort }, { ca, servername: host, protocols })
      : await openSecure({ socket: tunnel.socket }, { ca, protocols });
  const close = () => {
    // TLS before what it runs on: the other way round Node 24 crashes.
    client.socket.destroy();
    tunnel?.socket.destroy();
  };
  if (by.protocol === "HTTP/1.1") return { raw: client, close, ask: (attempt) => askText(client, attempt, host) };
  if (client.socket.alpnProtocol !== "h2") throw new Error(`ALPN chose ${client.socket.alpnProtocol}`);
  client.socket.removeAllListeners("data");
  return { raw: client, close, ask: createFrameAsker(createFrameClient(client.socket, host, Buffer.alloc(0)), host) };
}

export interface AttackRoomOptions extends Omit<TestProxyOptions, "onConnection" | "targetPort" | "http2"> {
  /** What the target answers; it echoes unless told. */
  respond?: (request: SeenRequest) => Reply;
}

/** A proxy, a lenient target behind it, and attackers who come in that way. */
export async function startAttackRoom(by: Way, options: AttackRoomOptions = {}) {
  const started = await startTestProxy({ ...options, http2: "own" });
  const leaf = await started.targetCa.leaf(["127.0.0.1", "target.example"]);
  const target = await startLenientTarget(leaf, options.respond === undefined ? {} : { respond: options.respond });
  const address = `https://127.0.0.1:${target.port}${options.prefix ?? ""}`;
  const aimed: ResolvedConnector = {
    ...started.connector,
    address,
    target: parseAddress(address),
    uid: "uid-of-attacks",
  };
  started.source.put(aimed);
  const { proxy, connectorCa } = started;
  const { authority } = aimed.target;
  const host = by.door === "forward" ? authority : (aimed.serviceNames[0] ?? "");
  const opened: Attacker[] = [];
  let friend: Attacker | undefined;

  async function open(): Promise<Attacker> {
    const { forwardPort, reversePort } = proxy;
    const connect = connectText(authority);
    const attacker = await openAttacker(by, { forwardPort, reversePort, ca: connectorCa.certificate, host, connect });
    opened.push(attacker);
    return attacker;
  }

  return {
    ...started,
    by,
    target,
    connector: aimed,
    authority,
    host,
    open,
    /** One attempt on a connection of its own. */
    async ask(attempt: Attempt = {}): Promise<Answer> {
      return await (await open()).ask(attempt);
    },
    /** What an honest client asks, on a connection that it keeps. */
    async askFriendly(attempt: Attempt = {}): Promise<Answer> {
      friend ??= await open();
      const answer = await friend.ask(attempt);
      if (answer.ended !== undefined || valuesOf(answer.head, "connection").join() === "close") friend = undefined;
      return answer;
    },
    async [Symbol.asyncDispose]() {
      for (const attacker of opened) attacker.close();
      await started[Symbol.asyncDispose]();
      await target[Symbol.asyncDispose]();
    },
  };
}

export type AttackRoom = Awaited<ReturnType<typeof startAttackRoom>>;

function linesOf({ authorization = [`Bearer ${callerToken}`], lines = [] }: Attempt): string[] {
  return [...authorization.map((value) => `Authorization: ${value}`), ...lines];
}

/** The bytes of an attempt in HTTP/1.1. */
export function attemptText(attempt: Attempt, host: string): string {
  const { method = "GET", path = "/", body, trailers } = attempt;
  const framing =
    trailers !== undefined
      ? ["Transfer-Encoding: chunked"]
      : body === undefined
        ? []
        : [`Content-Length: ${Buffer.byteLength(body, "latin1")}`];
  const head = [`${method} ${path} HTTP/1.1`, `Host: ${attempt.host ?? host}`, ...linesOf(attempt), ...framing];
  const text = `${head.join("\r\n")}\r\n\r\n`;
  if (trailers === undefined) return text + (body ?? "");
  const chunk = body === undefined ? "" : `${body.length.toString(16)}\r\n${body}\r\n`;
  return `${text}${chunk}0\r\n${trailers.map((line) => `${line}\r\n`).join("")}\r\n`;
}

async function askText(client: RawClient, attempt: Attempt, host: string): Promise<Answer> {
  try {
    return await client.ask(attemptText(attempt, host));
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith("closed before"))) throw error;
    return { status: 0, head: "", body: "", ended: "closed" };
  }
}

function createFrameAsker(client: ReturnType<typeof createFrameClient>, host: string): Attacker["ask"] {
  const decoder = new HpackDecoder(1 << 20);
  let next = 1;
  let looked = 0;
  const heads = new Map<number, string>();

  /** Blocks are decoded in the order in which they came, those of other streams too. */
  function readHeads(): void {
    for (; looked < client.seen.length; looked++) {
      const one = client.seen[looked];
      if (one?.type !== 1) continue;
      const lines = decoder.decode(one.payload).fields.map(({ name, value }) => `${name}: ${value}\r\n`);
      heads.set(one.id, (heads.get(one.id) ?? "") + lines.join(""));
    }
  }

  return async (attempt) => {
    const { method = "GET", path = "/", body, trailers } = attempt;
    const id = next;
    next += 2;
    const block = Buffer.concat([
      literal(":method", method),
      literal(":scheme", "https"),
      literal(":path", path),
      literal(":authority", attempt.host ?? host),
      ...linesOf(attempt).map(fieldOf),
    ]);
    const isBare = body === undefined && trailers === undefined;
    const pieces = [];
    for (let at = 0; at === 0 || at < block.length; at += 16_384) pieces.push(block.subarray(at, at + 16_384));
    const frames = pieces.map((piece, at) => {
      const isLast = at === pieces.length - 1 ? 4 : 0;
      return at === 0 ? frame(1, isLast | (isBare ? 1 : 0), id, piece) : frame(9, isLast, id, piece);
    });
    if (body !== undefined) frames.push(frame(0, trailers === undefined ? 1 : 0, id, Buffer.from(body, "latin1")));
    if (trailers !== undefined) frames.push(frame(1, 5, id, Buffer.concat(trailers.map(fieldOf))));
    client.send(...frames);
    const last = await client.until(({ type, id: at, flags, payload }) => {
      // A GOAWAY that lets this stream end is not its end.
      if (type === 7) return payload.readUInt32BE(4) !== 0 || payload.readUInt32BE(0) < id;
      return at === id && (type === 3 || (type <= 1 && (flags & 1) !== 0));
    });
    readHeads();
    const head = heads.get(id) ?? "";
    const ended =
      last === undefined
        ? "closed"
        : last.type === 7
          ? `goaway ${last.payload.readUInt32BE(4)}`
          : last.type === 3
            ? `reset ${last.payload.readUInt32BE(0)}`
            : undefined;
    const data = client.seen.filter((one) => one.type === 0 && one.id === id).map(({ payload }) => payload);
    return {
      status: Number(valuesOf(head, ":status")[0] ?? 0),
      head,
      body: Buffer.concat(data).toString("latin1"),
      ...(ended === undefined ? {} : { ended }),
    };
  };
}

function fieldOf(line: string): Buffer {
  // A pseudo-header's name begins with a colon.
  const name = line.slice(0, line.indexOf(":", 1));
  return literal(name.toLowerCase(), line.slice(name.length + 1).replace(/^ /, ""));
}

/** How an attack must end: with a Status of ours, or in HTTP/2 with the end of its stream or connection. */
export type Refused = { status: number; says: RegExp | string } | { ended: string };

/**
 * The attack is refused in a way that reads well and nothing of it reaches the target; the same without the evil part passes.
 */
export async function expectRefused(
  room: AttackRoom,
  evil: Attempt,
  how: Refused,
  innocent: Attempt = {},
): Promise<void> {
  const what = JSON.stringify(evil);
  room.target.clear();
  expectAnswer(await room.ask(evil), how, what);
  expect(room.target.seen(), what).toBe("");
  await expectPasses(room, innocent);
}

/** That an attack ended in that way. */
export function expectAnswer(answer: Answer, how: Refused, what = ""): void {
  if ("ended" in how) expect(answer.ended, what).toBe(how.ended);
  else expectStatus(answer, how, what);
}

/** How what no protocol allows is answered. */
export const malformed = (by: Way): Refused =>
  by.protocol === "HTTP/2" ? { ended: "reset 1" } : { status: 400, says: "The HTTP message is malformed" };

/** An answer of ours: a Status that says why, and the same in a Warning, which is all that kubectl shows sometimes. */
export function expectStatus(answer: Answer, how: { status: number; says: RegExp | string }, what = ""): void {
  expect([answer.status, answer.ended], what).toEqual([how.status, undefined]);
  const { kind, code, message } = JSON.parse(answer.body) as { kind: string; code: number; message: string };
  expect([kind, code], what).toEqual(["Status", how.status]);
  expect(message, what).toMatch(how.says);
  const [warning = ""] = valuesOf(answer.head, "warning");
  expect(warning, what).toMatch(/^299 - "[ -~]+"$/);
}

/** That reaches the target, once, with the stored token and nothing of the caller's. Answers with what the target saw. */
export async function expectPasses(room: AttackRoom, attempt: Attempt = {}): Promise<SeenRequest> {
  const before = room.target.requests.length;
  const { status, ended } = await room.askFriendly(attempt);
  expect([status, ended], JSON.stringify(attempt)).toEqual([200, undefined]);
  const [request, ...more] = room.target.requests.slice(before);
  if (request === undefined || more.length > 0) throw new Error(`${more.length} requests more than one`);
  expectOurs(request);
  return request;
}

/** One Authorization, the stored token; one Host; nowhere the caller's token. */
export function expectOurs({ head }: SeenRequest): void {
  expect(valuesOf(head, "authorization")).toEqual([`Bearer ${testToken}`]);
  expect(valuesOf(head, "host").length).toBe(1);
  expect(head).not.toContain(callerToken);
}
