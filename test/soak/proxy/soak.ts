import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startControlPlane } from "../../kit/control-plane.ts";
import { createRandom } from "../../kit/random.ts";
import { type Crowd, startCrowd } from "./crowd.ts";
import { megabytes, type Quiet, type Run, type SoakOptions } from "./run.ts";
import { tokenMark } from "./tokens.ts";
import { type Verdict, verdict } from "./verdict.ts";
import { type Held, startWatchedProxy } from "./watched-proxy.ts";
import { startWorld } from "./world.ts";

// A proxy that works for a while as it would in a busy cluster, and what is left of that afterwards. README.md in the folder above says
// what is asked of it.

const rotateEvery = 5_000;
const clientProcesses = 2;
/** Seconds of load before what is held is looked at for the first time: code is compiled, tables have their size. */
const warmUp = (seconds: number) => Math.max(6, Math.min(60, seconds * 0.2));
/** Milliseconds between restarts of a target. */
const restartEvery = (seconds: number) => Math.max(5_000, Math.min(20_000, seconds * 250));
/** Seconds for which it is worth to wait for the upstream pools' own time. */
const isLong = (seconds: number) => seconds >= 120;
/** Milliseconds until everything that clients left behind must be gone: a CONNECT, a handshake, a head have 10 s each. */
const quietWithin = 45_000;
/** Milliseconds until connections to targets must be gone by themselves: the pools keep them for 60 s. */
const idleWithin = 75_000;
/** Milliseconds after which clients that do not come to rest are a reason to say what is open. */
const restsWithin = 30_000;

/** Runs it to its end, and says what was found. */
export async function soakProxy(options: SoakOptions): Promise<Verdict> {
  const { seed, seconds, say } = options;
  say(`soak of the proxy: ${seconds} s, seed ${seed}`);
  const stops: (() => Promise<unknown>)[] = [];
  try {
    const directory = await mkdtemp(join(tmpdir(), "soak-"));
    stops.push(() => rm(directory, { recursive: true }));
    const plane = await startControlPlane();
    stops.push(() => plane.stop());
    let crowd: Crowd | undefined;
    const world = await startWorld({ plane, directory, onOutage: (outage) => crowd?.tell({ outage }) });
    stops.push(() => world.stop());
    const secrets = [tokenMark, ...world.places.flatMap(({ callers }) => callers).flatMap(signatures)];
    const replica = { directory, kubeconfig: plane.kubeconfig, flags: { http2: "own" } };
    const proxy = await startWatchedProxy({ replica, secrets, apiPort: Number(new URL(plane.url).port) });
    stops.push(() => proxy.replica.stop());
    const { forward, reverse, ended } = proxy.replica;
    const starts = Array.from({ length: clientProcesses }, (_, index) => {
      return { name: `client-${index}`, seed: seed + index, forward, reverse, places: world.places };
    });
    const clients = startCrowd(starts);
    stops.push(() => clients.stop());
    crowd = clients;
    const began = performance.now();
    const run: Run = { options, world, proxy, crowd: clients, began, resident: [], lag: 0, isOver: false };
    stops.push(async () => (run.isOver = true));
    const died = ended.then((status) => Promise.reject(new Error(`the proxy ended with status ${status}`)));
    return await Promise.race([go(run), died, clients.died]);
  } finally {
    for (const stop of stops.toReversed()) await stop().catch((error: unknown) => say(`not undone: ${String(error)}`));
  }
}

async function go(run: Run): Promise<Verdict> {
  const { seconds } = run.options;
  const descriptors = run.proxy.descriptors();
  await work(run, warmUp(seconds));
  const first = await quiet(run, "first");
  await work(run, seconds - warmUp(seconds));
  const last = await quiet(run, "last");
  return verdict({ ...run, descriptors, first, last });
}

/** Load, rotations and restarts for that many seconds. */
async function work(run: Run, seconds: number): Promise<void> {
  const { world, proxy, crowd, options } = run;
  const random = createRandom(options.seed);
  const until = performance.now() + seconds * 1000;
  const repeat = async (every: number, act: (late: number) => Promise<unknown>) => {
    for (let next = performance.now() + every; next < until && !run.isOver; next += every) {
      await sleep(Math.max(0, next - performance.now()));
      await act(performance.now() - next);
    }
  };
  let lines = 0;
  crowd.work();
  await Promise.all([
    repeat(rotateEvery, () => world.rotate()),
    repeat(restartEvery(options.seconds), () => world.restartTarget(random.number(world.places.length))),
    repeat(100, async (late) => (run.lag = Math.max(run.lag, late))),
    repeat(1_000, async () => {
      run.resident.push(proxy.resident());
      lines += 1;
      if (lines % 10 === 0) await progress(run);
    }),
  ]);
}

async function progress({ proxy, crowd, world, options, began }: Run): Promise<void> {
  const { tally } = crowd;
  const [open, { clients, targets }] = await Promise.all([proxy.open(), proxy.connections()]);
  const parts = [
    `${((performance.now() - began) / 1000).toFixed(0)} s`,
    `requests ${world.seen().requests}`,
    `GB ${(tally.bytes / 1e9).toFixed(2)}`,
    `open ${open}`,
    `connections ${clients}+${targets}`,
    `descriptors ${proxy.descriptors()}`,
    `RSS ${megabytes(proxy.resident())} MB`,
    `oldest token ${Math.max(0, world.seen().latest)} ms`,
    `lost ${tally.lost.length}`,
    `mixed up ${tally.mixedUp.length}`,
    `wrong at targets ${world.seen().wrong.length}`,
  ];
  options.say(parts.join("  "));
}

/** Clients come to rest; then everything that they left must go, at last with the targets away. */
async function quiet(run: Run, which: "first" | "last"): Promise<Quiet> {
  const { crowd, proxy, world, options } = run;
  const tellOpen = async () => options.say(`still open: ${await proxy.replica.read("/debug/streams")}`);
  const waiting = setTimeout(() => void tellOpen().catch(() => undefined), restsWithin);
  await crowd.rest();
  clearTimeout(waiting);
  const left: string[] = [];
  const gone = async (what: string, within: number, count: () => Promise<number>) => {
    const end = performance.now() + within;
    for (let found = await count(); found > 0; found = await count()) {
      if (performance.now() > end) {
        left.push(`${found} ${what}`);
        return;
      }
      await sleep(200);
    }
  };
  await gone("connections of clients", quietWithin, async () => (await proxy.connections()).clients);
  await gone("open streams", 2_000, () => proxy.open());
  if (which === "last" && isLong(options.seconds)) {
    await gone("connections to targets", idleWithin, async () => (await proxy.connections()).targets);
  }
  let held: Held | undefined;
  await world.withoutTargets(async () => {
    await gone("connections to targets that are away", 5_000, async () => (await proxy.connections()).targets);
    const file = options.snapshots === undefined ? undefined : join(options.snapshots, `${which}.heapsnapshot`);
    held = await proxy.held(file);
  });
  if (held === undefined) throw new Error("nothing was measured");
  options.say(
    `${which} quiet: holds ${megabytes(held.live)} MB, RSS ${megabytes(held.resident)} MB, ${held.descriptors} descriptors`,
  );
  return { ...held, left };
}

/** The parts of a caller's tokens that are only in them. */
function signatures(caller: { tunnel: string; request: string }): string[] {
  return [caller.tunnel, caller.request].map((token) => token.split(".")[2] ?? token);
}
