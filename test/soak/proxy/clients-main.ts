import { setTimeout as sleep } from "node:timers/promises";
import { createRandom, type Random } from "../../kit/random.ts";
import { behaviour, type BehaviourName, Left, pickBehaviour } from "./behaviours.ts";
import { MixedUp } from "./marks.ts";
import type { ClientsStart, FromClients, Place, Tally, ToClients } from "./messages.ts";
import { pickRogue } from "./rogues.ts";
import { type DoorName, openWire, type Way, type Wire } from "../../kit/wire.ts";

// Many clients as a process of its own. Each lane is one client that does one thing after the other; those of HTTP/2 do
// several at once on one connection. What fails while a target is away is no loss, anything else is.

/** Milliseconds after a target's return in which its clients may still see that it was away. */
const aftermath = 3_000;
/** Milliseconds that anything may last. */
const patience = 60_000;

const tell = (message: FromClients) => process.send?.(message);
let tally: Tally = { counts: {}, lost: [], mixedUp: [], bytes: 0 };
const outages: { connector: string; from: number; to?: number }[] = [];
const life = { works: false, number: 0 };
let running: Promise<unknown> | undefined;
let given: ClientsStart | undefined;

process.on("message", (message: ToClients) => {
  if ("start" in message) given = message.start;
  else if ("outage" in message) noteOutage(message.outage);
  else if (message.work) begin();
  else void rest();
});
process.once("disconnect", () => process.exit(0));
setInterval(() => {
  tell({ tally });
  tally = { counts: {}, lost: [], mixedUp: [], bytes: 0 };
}, 500).unref();

function noteOutage(outage: (typeof outages)[number]): void {
  const known = outages.find(({ connector, from }) => connector === outage.connector && from === outage.from);
  if (known === undefined) outages.push(outage);
  else Object.assign(known, outage);
}

function wasAway(place: Place, from: number, to: number): boolean {
  return outages.some(
    (outage) =>
      outage.connector === place.connector &&
      outage.from <= to &&
      from <= (outage.to ?? Number.POSITIVE_INFINITY) + aftermath,
  );
}

function count(what: string, how: string): void {
  const key = `${what} ${how}`;
  tally.counts[key] = (tally.counts[key] ?? 0) + 1;
}

/** Does it, and judges how it went. */
async function attempt(what: string, place: Place, act: () => Promise<void>): Promise<boolean> {
  const began = Date.now();
  try {
    await inTime(act());
    count(what, "ok");
    return true;
  } catch (error) {
    if (error instanceof MixedUp) {
      count(what, "mixed up");
      tally.mixedUp.push(`${what}: ${error.message}`);
    } else if (error instanceof Left) count(what, "left");
    else {
      // The word that a target is away may come after the loss that it brings.
      const isLate = error instanceof Late;
      if (!isLate && !wasAway(place, began, Date.now())) await sleep(1_000);
      if (!isLate && wasAway(place, began, Date.now())) count(what, "away");
      else {
        count(what, "lost");
        tally.lost.push(`${place.connector} ${what} after ${Date.now() - began} ms: ${String(error)}`);
      }
    }
    return false;
  }
}

/** A client that waits for ever: that a target was away is no reason for it. */
class Late extends Error {}

async function inTime(acting: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Late(`not done after ${patience} ms`)), patience);
  });
  await Promise.race([acting, late]).finally(() => clearTimeout(timer));
}

interface Lane {
  random: Random;
  start: ClientsStart;
}

function wayOf({ random, start }: Lane): Way<Place> {
  const place = random.pick(start.places);
  const door: DoorName = random.chance(0.65) ? "forward" : "reverse";
  return { place, caller: random.pick(place.callers), door, ports: { forward: start.forward, reverse: start.reverse } };
}

async function perform(lane: Lane, way: Way<Place>, wire: Wire, name: BehaviourName): Promise<boolean> {
  life.number += 1;
  const mark = `${lane.start.name}-${life.number}`;
  const read = (bytes: number) => void (tally.bytes += bytes);
  const isOver = () => !life.works;
  const what = `${wire.protocol} ${name}`;
  return await attempt(what, way.place, () => behaviour(name)({ wire, random: lane.random, mark, read, isOver }));
}

/** A connection, or nothing where that failed. */
async function open(way: Way<Place>, wanted: "h1" | "h2"): Promise<Wire | undefined> {
  let wire: Wire | undefined;
  await attempt("connect", way.place, async () => {
    wire = await openWire(way, wanted);
  });
  return wire;
}

type Run = (lane: Lane) => Promise<void>;

/** Requests one after the other on one connection, as many as `requests` says, then another one. */
const oneByOne =
  (requests: (random: Random) => number): Run =>
  async (lane) => {
    const way = wayOf(lane);
    const wire = await open(way, "h1");
    if (wire === undefined) return;
    const until = requests(lane.random);
    for (let done = 0; done < until && life.works && wire.isOpen(); done += 1) {
      const name = pickBehaviour(lane.random, wire.protocol);
      if (!(await perform(lane, way, wire, name)) || name === "exec") break;
      await sleep(lane.random.number(80));
    }
    wire.end(lane.random.chance(0.5) ? "close" : "destroy");
  };

/** Several at once on one connection, for some seconds. */
const sideBySide: Run = async (lane) => {
  const way = wayOf(lane);
  const wire = await open(way, "h2");
  if (wire === undefined) return;
  const until = Date.now() + 2_000 + lane.random.number(10_000);
  const streams = wire.protocol === "h2" ? 6 : 1;
  const stream = async () => {
    while (life.works && Date.now() < until && wire.isOpen()) {
      await perform(lane, way, wire, pickBehaviour(lane.random, "h2"));
      await sleep(lane.random.number(200));
    }
  };
  await Promise.all(Array.from({ length: streams }, stream));
  wire.end(lane.random.chance(0.5) ? "close" : "destroy");
};

/** Watches that go on while tokens change, on a connection of their own. */
const watching =
  (wanted: "h1" | "h2"): Run =>
  async (lane) => {
    const way = wayOf(lane);
    const wire = await open(way, wanted);
    if (wire === undefined) return;
    const count = wire.protocol === "h2" ? 8 : 1;
    await Promise.all(Array.from({ length: count }, () => perform(lane, way, wire, "longWatch")));
    wire.end("close");
  };

const misbehaving: Run = async (lane) => {
  const way = wayOf(lane);
  const { name, act } = pickRogue(lane.random);
  await attempt(`rogue ${name}`, way.place, () => act(way, lane.random));
  await sleep(lane.random.number(300));
};

const crowd: readonly { run: Run; lanes: number }[] = [
  { run: oneByOne((random) => 5 + random.number(60)), lanes: 8 },
  { run: oneByOne(() => 1), lanes: 2 },
  { run: sideBySide, lanes: 4 },
  { run: watching("h1"), lanes: 3 },
  { run: watching("h2"), lanes: 1 },
  { run: misbehaving, lanes: 3 },
];

function begin(): void {
  const start = given;
  if (start === undefined || life.works) return;
  life.works = true;
  const lanes = crowd.flatMap(({ run, lanes }) => Array.from({ length: lanes }, () => run));
  running = Promise.all(
    lanes.map(async (run, index) => {
      const lane = { start, random: createRandom(start.seed + index * 1_000_003) };
      while (life.works) {
        await run(lane);
        // Whoever cannot connect does not try again at once.
        await sleep(50 + lane.random.number(150));
      }
    }),
  );
}

/** Each lane ends what it does. */
async function rest(): Promise<void> {
  life.works = false;
  await running;
  tell({ tally });
  tally = { counts: {}, lost: [], mixedUp: [], bytes: 0 };
  tell({ resting: true });
}
