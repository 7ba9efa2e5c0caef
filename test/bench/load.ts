import { otherCore, cpuOf, start } from "./machine.ts";
import type { Bench, Subject } from "./peers.ts";

/** Milliseconds of load before the measuring begins: handshakes are over, code is warm. */
const settle = 300;
/** Fewer requests than this say nothing. */
const fewest = 30;

/** What to ask for again and again; over HTTP/2 with that many requests at once on each connection. */
export interface Load {
  path: string;
  connections: number;
  milliseconds: number;
  streams?: number;
}

/** CPU microseconds that a proxy needs for one request, while wrk, or h2load, keeps connections busy with it. */
export async function cpuPerRequest(bench: Bench, subject: Subject, load: Load): Promise<number> {
  const headers = subject.headers.flatMap((line) => ["-H", line]);
  const url = `${subject.tls ? "https" : "http"}://localhost:${subject.port}${load.path}`;
  const seconds = Math.ceil((settle + load.milliseconds) / 1000) + 4;
  const amount = ["-t1", `-c${load.connections}`];
  const program =
    load.streams === undefined ? ["wrk", `-d${seconds}s`] : ["h2load", `-m${load.streams}`, `-D${seconds}`];
  return await cpuUnder([...program, ...amount, ...headers, url], bench, subject, load.milliseconds);
}

/**
 * CPU microseconds that a proxy needs for one request of those that a program sends it. Requests are counted by the
 * target, so that what is measured begins after the handshakes.
 */
export async function cpuUnder(
  command: readonly string[],
  bench: Bench,
  subject: Subject,
  milliseconds: number,
): Promise<number> {
  await using load = await start(otherCore, command);
  await sleep(settle);
  if (load.child.exitCode !== null) throw new Error(`${command[0] ?? ""} ended at once before ${subject.name}`);
  const before = await countsOf(bench, subject);
  await sleep(milliseconds);
  let after = await countsOf(bench, subject);
  // On a machine that has other things to do, for as long as it takes to see some.
  while (after.requests - before.requests < fewest && load.child.exitCode === null) {
    await sleep(milliseconds);
    after = await countsOf(bench, subject);
  }
  // Our own question is a request too.
  return (after.cpu - before.cpu) / (after.requests - before.requests - 1);
}

/** Both at one moment: to ask the target takes a while when the machine is busy. */
async function countsOf(bench: Bench, subject: Subject): Promise<{ cpu: number; requests: number }> {
  const earlier = cpuOf(subject.pid);
  const requests = await bench.answered();
  return { cpu: (earlier + cpuOf(subject.pid)) / 2, requests };
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
