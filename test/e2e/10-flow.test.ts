// A reader that stops does not fill the proxy's memory and slows nobody down, and a client that goes away leaves nothing
// behind: at the real proxy, from a target that is as fast as its socket.
import { createHash, type Hash } from "node:crypto";
import { readdirSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RawClient } from "../kit/raw-client.ts";
import { startWorkbench } from "./cluster.ts";
import {
  bearer,
  type Door,
  type EchoConnector,
  type Mounted,
  readMounted,
  requestText,
  startEchoConnector,
} from "./doors.ts";
import { eventually, kubectlOk } from "./kubectl.ts";
import { processes, residentBytes } from "./processes.ts";

const doors = ["forward", "reverse"] as const;
const mebi = 1 << 20;
const total = 100 * mebi;
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
let flow: EchoConnector;
let mounted: Mounted;
let proxy: number;

beforeAll(async () => {
  flow = await startEchoConnector("team-a", "flow");
  await kubectlOk(["-n", "team-a", "delete", "pod", "reader", "--now", "--ignore-not-found"]);
  const pod = await startWorkbench({ namespace: "team-a", name: "reader", volumes: { flow: { connector: "flow" } } });
  mounted = await readMounted(pod, "flow");
  const [found, ...others] = processes("r-team-a--flow");
  if (found === undefined || others.length > 0) throw new Error("there should be one proxy process for team-a/flow");
  proxy = found.pid;
});
afterAll(async () => {
  await flow?.[Symbol.asyncDispose]();
  await kubectlOk(["-n", "team-a", "delete", "pod", "reader", "--now", "--ignore-not-found"]);
});

const get = (door: Door, path: string) => requestText("GET", path, flow.host(door), bearer(mounted.request));

/** Milliseconds of each of so many requests, one after the other on one connection; each must succeed. */
async function callTimes(door: Door, count: number): Promise<number[]> {
  const client = await flow.open(door, mounted);
  const times: number[] = [];
  for (let done = 0; done < count; done += 1) {
    const started = performance.now();
    expect((await client.ask(get(door, "/call"))).status).toBe(200);
    times.push(performance.now() - started);
  }
  client.socket.destroy();
  return times.sort((a, b) => a - b);
}

const median = (sorted: readonly number[]) => sorted[sorted.length >> 1] ?? Number.NaN;

/** Reads an answer of that many bytes, and can stop. */
interface Reader {
  socket: RawClient["socket"];
  read(): number;
  /** Hex SHA-256 of the body, once it is there. */
  whole: Promise<string>;
}

async function startReader(door: Door, bytes: number): Promise<Reader> {
  const { socket } = await flow.open(door, mounted);
  socket.removeAllListeners("data");
  const hash: Hash = createHash("sha256");
  let read = 0;
  let head: Buffer | undefined = Buffer.alloc(0);
  const whole = new Promise<string>((resolve, reject) => {
    socket.on("data", (part: Buffer) => {
      let body = part;
      if (head !== undefined) {
        head = Buffer.concat([head, part]);
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) return;
        body = head.subarray(end + 4);
        head = undefined;
      }
      hash.update(body);
      read += body.length;
      if (read >= bytes) resolve(hash.digest("hex"));
    });
    const ended = () => reject(new Error(`ended after ${read} of ${bytes} bytes`));
    socket.once("end", ended).once("close", ended);
  });
  whole.catch(() => undefined); // it is looked at later
  socket.write(get(door, `/flow/bytes/${bytes}`));
  return { socket, read: () => read, whole };
}

function resident(): number {
  try {
    return residentBytes(proxy);
  } catch (error) {
    throw new Error("the proxy's process has ended", { cause: error });
  }
}

/** The most resident memory of the proxy while that goes on. */
async function mostMemory(during: () => Promise<void>): Promise<number> {
  let most = resident();
  const going = { yes: true };
  const watching = (async () => {
    while (going.yes) {
      most = Math.max(most, resident());
      await sleep(50);
    }
  })();
  await Promise.all([during().finally(() => (going.yes = false)), watching]);
  return most;
}

test("100 MB from a fast target to a reader that stops: the proxy's memory stays flat, other clients go on, and the reader gets every byte when it reads again", async () => {
  // Warm: code compiled, buffers of a large answer seen once.
  for (const door of doors) {
    const { whole, socket } = await startReader(door, total);
    await whole;
    socket.destroy();
    await callTimes(door, 500);
  }
  const alone: Record<Door, number[]> = {
    forward: await callTimes("forward", 500),
    reverse: await callTimes("reverse", 500),
  };
  const before = resident();
  const writtenBefore = flow.target.written();

  const readers = await Promise.all(doors.map((door) => startReader(door, total)));
  await eventually(() => expect(Math.min(...readers.map((reader) => reader.read()))).toBeGreaterThan(0), 10_000, 5);
  for (const { socket } of readers) socket.pause();
  const beside: Record<Door, number[]> = { forward: [], reverse: [] };
  const stopped = await mostMemory(async () => {
    await sleep(2000);
    for (const door of doors) beside[door] = await callTimes(door, 500);
    await sleep(2000);
  });
  const accepted = flow.target.written() - writtenBefore;
  const held = accepted - readers.reduce((sum, reader) => sum + reader.read(), 0);

  const resumed = await mostMemory(async () => {
    for (const { socket } of readers) socket.resume();
    for (const { whole } of readers) expect(await whole).toBe(flow.target.checksum(total));
  });
  for (const { socket } of readers) socket.destroy();

  const mb = (bytes: number) => `${(bytes / mebi).toFixed(0)} MiB`;
  const ratios = doors.map((door) => median(beside[door]) / median(alone[door]));
  console.log(
    `two stopped readers of ${mb(total)}: resident ${mb(before)} before, at most ${mb(stopped)} while they stood still, ` +
      `${mb(resumed)} when they read again; ${mb(held)} on the way; calls beside them took ` +
      `${ratios.map((ratio) => ratio.toFixed(2)).join(" and ")} of the time alone (${median(alone.forward).toFixed(2)} ms)`,
  );
  expect(accepted).toBeLessThan(total);
  expect(stopped - before).toBeLessThan(48 * mebi);
  expect(resumed - before).toBeLessThan(48 * mebi);
  for (const ratio of ratios) expect(ratio).toBeLessThan(3);
}, 90_000);

test("1,000 aborted watches leave no connection to the target and no file descriptor in the proxy", async () => {
  const descriptors = () => readdirSync(`/proc/${proxy}/fd`).length;
  const openBefore = flow.target.open();
  const before = descriptors();
  let most = 0;
  let begun = 0;
  const abort = async (): Promise<void> => {
    for (let number = begun++; number < 1000; number = begun++) {
      const door = doors[number % 2 === 0 ? 0 : 1];
      const client = await flow.open(door, mounted);
      client.send(get(door, "/flow/watch?watch=true"));
      // At once, a moment later (deciding, dialling), or in the middle of the stream.
      if (number % 5 === 1) await sleep(Math.random() * 10);
      else if (number % 5 > 1) await client.until("event");
      most = Math.max(most, flow.target.open());
      if (number % 3 === 0) client.socket.end();
      else client.socket.destroy();
    }
  };
  await Promise.all(Array.from({ length: 25 }, abort));
  const ended = performance.now();
  expect(most).toBeGreaterThan(openBefore + 5);
  await eventually(() => {
    expect(flow.target.open()).toBeLessThanOrEqual(openBefore);
    expect(descriptors()).toBeLessThanOrEqual(before);
  }, 20_000);
  console.log(
    `1,000 aborted watches: at most ${most} connections to the target, ${flow.target.open()} left ` +
      `${((performance.now() - ended) / 1000).toFixed(1)} s later (${openBefore} before); ` +
      `${descriptors()} descriptors (${before} before)`,
  );
  for (const door of doors) await callTimes(door, 10);
});
