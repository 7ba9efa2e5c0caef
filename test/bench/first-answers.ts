import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import type { TLSSocket } from "node:tls";
import { fileURLToPath } from "node:url";
import { ask, getText, openTls, openTunnel } from "./clients.ts";
import { figure } from "./figure.ts";
import { freePort, otherCore, start } from "./machine.ts";
import type { Bench, Subject } from "./peers.ts";
import { median, rounds, table } from "./rounds.ts";

/** Milliseconds that bytes are under way to a target that is far, and as many back. */
const oneWay = 10;

/**
 * How soon a new client has its first answer, counted from its first byte of TLS, while its connection is the target's first
 * as well: in a tunnel, where that is begun ahead, and at the reverse door, where it is not; of a target beside the proxy and of
 * one that is 20 ms away.
 */
export async function compareFirstAnswers(
  bench: Bench,
  target: { port: number; http2: boolean; path: string; count: number },
): Promise<void> {
  const version = target.http2 ? "h2" : "h1";
  const listen = await freePort();
  const command = [process.execPath, fileURLToPath(new URL("far.ts", import.meta.url))];
  const relay = JSON.stringify({ listen, target: target.port, milliseconds: oneWay });
  await using stack = new AsyncDisposableStack();
  stack.use(await start(otherCore, [...command, relay], { ready: "ready" }));
  const targets = { near: target.port, far: listen };
  for (const [where, port] of Object.entries(targets)) {
    const ours = await bench.ours(`ours, first answers, ${where}`, { port });
    const held: TLSSocket[] = [];
    const took = await rounds(target.count, ["reverse door", "tunnel"] as const, (door) =>
      firstAnswer(bench, ours, { ...target, authority: `127.0.0.1:${port}`, tunnel: door === "tunnel", held }),
    );
    for (const socket of held) socket.destroy();
    const title = `${version} first answer, target ${where}`;
    table(title, "ms", took);
    const hidden = median(took["reverse door"].map((without, at) => without - (took.tunnel[at] ?? 0)));
    figure(`${title}: hidden by connecting ahead`, hidden, "ms", { atLeast: 0 });
  }
}

async function firstAnswer(
  bench: Bench,
  ours: Subject,
  how: { tunnel: boolean; http2: boolean; path: string; authority: string; held: TLSSocket[] },
): Promise<number> {
  const socket = how.tunnel ? await openTunnel(ours.forward ?? 0, how.authority, bench.tunnelToken) : undefined;
  const began = performance.now();
  const client = await openTls(socket === undefined ? { port: ours.port } : { socket }, how.http2 ? "h2" : "http/1.1");
  // Connections stay, so that each client needs a new one to the target.
  how.held.push(client);
  const host = how.tunnel ? how.authority : "localhost";
  if (how.http2) await askHttp2(client, `https://${host}`, how.path, ours.headers);
  else await ask(client, getText(how.path, host, ours.headers), 1);
  return performance.now() - began;
}

async function askHttp2(socket: TLSSocket, origin: string, path: string, headers: readonly string[]): Promise<void> {
  const session = connectHttp2(origin, { createConnection: () => socket });
  session.on("error", () => undefined);
  const fields = Object.fromEntries(headers.map((line) => line.split(": ", 2) as [string, string]));
  const stream = session.request({ ...fields, ":path": path });
  const [answer] = (await once(stream, "response")) as [Record<string, unknown>];
  if (answer[":status"] !== 200) throw new Error(`answered with ${String(answer[":status"])}`);
  await once(stream.resume(), "end");
}
