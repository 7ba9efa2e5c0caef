import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createFrameClient, frame } from "../../kit/http2.ts";
import type { Random } from "../../kit/random.ts";
import { createRawClient } from "../../kit/raw-client.ts";
import { basic, connectText } from "../../kit/test-proxy.ts";
import { openSecure, openTunnel, type Way } from "../../kit/wire.ts";
import type { Place } from "./messages.ts";

// Clients that break rules, by intent or because they are broken. Each is refused in its own way, and nothing of it
// reaches the target: a mark that begins with "never" is told there.

/** Milliseconds in which a rogue must have been answered. */
const patience = 20_000;

async function openPlain(way: Way): Promise<Socket> {
  const socket = connectTcp({ host: "127.0.0.1", port: way.ports.forward });
  socket.on("error", () => undefined);
  await once(socket, "connect", { signal: AbortSignal.timeout(patience) });
  return socket;
}

/** Sends that much at the forward door; how the answer begins. */
async function firstLine(socket: Socket, text: string): Promise<string> {
  const client = createRawClient(socket);
  client.send(text);
  const late = setTimeout(() => socket.destroy(), patience);
  try {
    return (await client.until("\r\n")).trimEnd();
  } finally {
    clearTimeout(late);
    socket.destroy();
  }
}

async function expectLine(socket: Socket, text: string, wanted: string): Promise<void> {
  const line = await firstLine(socket, text);
  if (!line.startsWith(wanted)) throw new Error(`wanted ${wanted}, got ${line}`);
}

/** Requests that are refused, and how the answer begins. */
function refusedRequests({ place, caller }: Way<Place>, host: string): readonly [text: string, answer: string][] {
  const { stranger } = place;
  const head = (path: string, token: string, more = "") =>
    `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nX-Mark: never\r\nX-Sent: 0\r\nAuthorization: Bearer ${token}\r\n${more}\r\n`;
  const good = caller.request;
  const path = `${place.prefix}/api`;
  return [
    [head(path, good, "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), "HTTP/1.1 400 "],
    [head(path, good, "Transfer-Encoding: gzip, chunked\r\n"), "HTTP/1.1 400 "],
    [head(path, good, "Host: elsewhere\r\n"), "HTTP/1.1 400 "],
    [head(path, good, "X: 1\r\n folded\r\n"), "HTTP/1.1 400 "],
    [head(path, good, "X : 1\r\n"), "HTTP/1.1 400 "],
    [head(path, good, "X: 1\n"), "HTTP/1.1 400 "],
    [head(`${path}/../secrets`, good), "HTTP/1.1 400 "],
    [head(path, good, "Impersonate-User: admin\r\n"), "HTTP/1.1 403 "],
    [head(path, good, `X: ${"x".repeat(70_000)}\r\n`), "HTTP/1.1 431 "],
    [head(path, `${good}x`), "HTTP/1.1 401 "],
    [head(path, stranger.request), "HTTP/1.1 403 "],
    [head(path, good).replace("HTTP/1.1", "HTTP/1.0"), "HTTP/1.1 505 "],
    ["\x00\x01\x02\r\n\r\n", "HTTP/1.1 400 "],
  ];
}

type Rogue = (way: Way<Place>, random: Random) => Promise<void>;

const malformed: Rogue = async (way, random) => {
  const host = way.door === "forward" ? way.place.authority : way.place.service;
  const socket = await openSecure(way, ["http/1.1"]);
  const [text, answer] = random.pick(refusedRequests(way, host));
  await expectLine(socket, text, answer);
};

const refusedConnect: Rogue = async (way, random) => {
  const { authority, connector, stranger } = way.place;
  const credentials = basic(connector, way.caller.tunnel);
  const [text, answer] = random.pick([
    [connectText(authority, basic(connector, `${way.caller.tunnel}x`)), "HTTP/1.1 407 "],
    [connectText(authority, basic(connector, stranger.request)), "HTTP/1.1 407 "],
    [connectText("127.0.0.1:1", credentials), "HTTP/1.1 403 "],
    [connectText(authority, basic("team-a/nobody", way.caller.tunnel)), "HTTP/1.1 404 "],
    ["GET /never HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "],
    [`CONNECT ${authority} HTTP/1.1\r\nX: ${"x".repeat(20_000)}\r\n\r\n`, "HTTP/1.1 431 "],
    ["CONNECT\n\n", "HTTP/1.1 400 "],
  ] as const);
  await expectLine(await openPlain(way), text, answer);
};

/** Begins a CONNECT and leaves, or stays until it is told to go. */
const halfConnect: Rogue = async (way, random) => {
  const socket = await openPlain(way);
  const text = connectText(way.place.authority, basic(way.place.connector, way.caller.tunnel));
  const part = text.slice(0, random.number(text.length - 2));
  if (random.chance(0.2)) await expectLine(socket, part, "HTTP/1.1 408 ");
  else {
    socket.write(part);
    await sleep(random.number(3_000));
    socket.destroy();
  }
};

/** A tunnel in which nothing comes, or no TLS, or the beginning of a request. */
const halfRequest: Rogue = async (way, random) => {
  if (random.chance(0.5)) {
    const socket = await openTunnel({ ...way, door: "forward" });
    if (random.chance(0.5)) socket.write(random.chance(0.5) ? "GET / HTTP/1.1\r\n\r\n" : "\x16\x03\x01\x02");
    await sleep(random.number(2_000));
    socket.destroy();
    return;
  }
  const socket = await openSecure(way, ["http/1.1"]);
  socket.write("GET /never HTTP/1.1\r\nHost: ");
  await sleep(random.number(2_000));
  socket.destroy();
};

/** Frames that break the rules of HTTP/2; the connection ends. Where HTTP/1.1 was chosen, nothing is done. */
const brokenFrames: Rogue = async (way, random) => {
  const socket = await openSecure(way, ["h2", "http/1.1"]);
  if (socket.alpnProtocol !== "h2") {
    socket.destroy();
    return;
  }
  const client = createFrameClient(socket, way.place.authority, Buffer.alloc(0));
  const late = setTimeout(() => socket.destroy(), patience);
  const kind = random.number(4);
  if (kind === 0)
    client.send(frame(random.number(10), random.number(256), random.number(9), Buffer.from(noise(random))));
  else if (kind === 1) client.send(frame(1, 4, 2, Buffer.from([0x82])), frame(1, 4, 1, Buffer.from([0x82])));
  else if (kind === 2) client.send(frame(1, 0, 1, Buffer.from([0x82])));
  else client.send(frame(0, 0, 1, Buffer.alloc(100)));
  // Some of these only begin something, or mean nothing: then the client leaves.
  await Promise.race([client.ended(), sleep(random.number(1_000))]);
  clearTimeout(late);
  socket.destroy();
};

function noise(random: Random): number[] {
  return Array.from({ length: random.number(200) }, () => random.number(256));
}

const rogues: readonly { name: string; act: Rogue }[] = [
  { name: "malformed", act: malformed },
  { name: "refusedConnect", act: refusedConnect },
  { name: "halfConnect", act: halfConnect },
  { name: "halfRequest", act: halfRequest },
  { name: "brokenFrames", act: brokenFrames },
];

export function pickRogue(random: Random): { name: string; act: Rogue } {
  return random.pick(rogues);
}
