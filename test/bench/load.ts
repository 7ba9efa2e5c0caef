import { otherCore, cpuOf, type Started, start } from "./machine.ts";
import type { Bench, Subject } from "./peers.ts";

/** Milliseconds of load before the measuring begins: handshakes are over, code is warm. */
const settle = 300;
/** Fewer requests than this say nothing. */
const fewest = 30;
/** Seconds for one measuring, on a machine that has other things to do. */
const longest = 60;

/** What to ask for again and again; over HTTP/2 with that many requests at once on each connection. */
export interface Load {
  path: string;
  connections: number;
  milliseconds: number;
  streams?: number;
  /** Requests to be measured at least, and before it a tenth of them; 30 unless told. */
  requests?: number;
}

/** CPU microseconds that a proxy needs for one request, while wrk, or h2load, keeps connections busy with it. */
export async function cpuPerRequest(bench: Bench, subject: Subject, load: Load): Promise<number> {
  const headers = subject.headers.flatMap((line) => ["-H", line]);
  const url = `${subject.tls ? "https" : "http"}://localhost:${subject.port}${load.path}`;
  const amount = ["-t1", `-c${load.connections}`];
  const program =
    load.streams === undefined ? ["wrk", `-d${longest}s`] : ["h2load", `-m${load.streams}`, `-D${longest}`];
  return await cpuUnder([...program, ...amount, ...headers, url], bench, subject, load.milliseconds, load.requests);
}

/**
 * CPU microseconds that a proxy needs for one request of those that a program sends it. Requests are counted by the
 * target, so that what is measured begins after the handshakes. Throws when wrk says that one was not answered well.
 */
export async function cpuUnder(
  command: readonly string[],
  bench: Bench,
  subject: Subject,
  milliseconds: number,
  requests = fewest,
): Promise<number> {
  await using load = await start(otherCore, command);
  /** On a busy machine it takes as long as it takes to see some. */
  const until = async (from: Counts, needed: number) => {
    for (;;) {
      const now = await countsOf(bench, subject);
      if (now.requests - from.requests >= needed || load.child.exitCode !== null) return now;
      await sleep(milliseconds / 4);
    }
  };
  const began = await countsOf(bench, subject);
  await sleep(settle);
  if (load.child.exitCode !== null) throw new Error(`${command[0] ?? ""} ended at once before ${subject.name}`);
  const before = await until(began, requests / 10);
  await sleep(milliseconds);
  const after = await until(before, requests);
  if (command[0] === "wrk") await checkAnswers(load, subject);
  // Our own questions are requests too.
  return (after.cpu - before.cpu) / (after.requests - before.requests - (after.asked - before.asked));
}

async function checkAnswers(wrk: Started, subject: Subject): Promise<void> {
  wrk.child.kill("SIGINT");
  await wrk.ended;
  const wrong = /Non-2xx or 3xx responses: (\d+)/.exec(wrk.said())?.[1];
  if (wrong !== undefined) throw new Error(`${subject.name} did not answer ${wrong} requests well`);
}

interface Counts {
  cpu: number;
  requests: number;
  /** How often we had asked. */
  asked: number;
}

let asked = 0;

/** Both at one moment: to ask the target takes a while when the machine is busy. */
async function countsOf(bench: Bench, subject: Subject): Promise<Counts> {
  const earlier = cpuOf(subject.pid);
  const requests = await bench.answered();
  asked += 1;
  return { asked, cpu: (earlier + cpuOf(subject.pid)) / 2, requests };
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
