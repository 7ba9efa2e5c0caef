import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../../kit/random.ts";
import { drained, lineLength, MixedUp, Pattern } from "./marks.ts";
import type { Call, Wire } from "../../kit/wire.ts";

// What honest clients do on one connection. Each throws when it did not get what it asked for: MixedUp when it got
// somebody else's, Left when it has gone away itself, any other error when the answer was wrong or broke off.

/** The client took its request back. */
export class Left extends Error {}

export interface Scene {
  wire: Wire;
  random: Random;
  /** A mark that nobody had before. */
  mark: string;
  /** Counts bytes of answers. */
  read(bytes: number): void;
  /** Whether clients should come to rest: what has no end of its own is left. */
  isOver(): boolean;
}

export type Behaviour = (scene: Scene) => Promise<void>;

/** How fast an answer is read. */
interface Pace {
  /** Milliseconds after each piece. */
  pause?: (random: Random) => number;
  /** Bytes after which the client leaves. */
  leaveAfter?: number;
  /** Leaves when all come to rest. */
  untilOver?: boolean;
}

function ask(scene: Scene, method: string, path: string, more: Record<string, string> = {}): Call {
  return scene.wire.ask({
    method,
    path,
    headers: { "x-mark": scene.mark, "x-sent": String(Date.now()), ...more },
  });
}

function readBody(scene: Scene, call: Call, body: Readable, size: number, pace: Pace = {}): Promise<void> {
  const pattern = new Pattern(scene.mark);
  let came = 0;
  // By events: Node's iterator tells of a broken stream when a short one over HTTP/2 has ended before it looks.
  return new Promise((resolve, reject) => {
    const over = (error: Error) => {
      call.cancel();
      reject(error);
    };
    body.on("data", (chunk: Buffer) => {
      try {
        pattern.check(came, chunk);
      } catch (error) {
        over(error as Error);
      }
      came += chunk.length;
      scene.read(chunk.length);
      const leaves = came >= (pace.leaveAfter ?? Number.POSITIVE_INFINITY) || (pace.untilOver && scene.isOver());
      if (leaves && came < size) over(new Left());
      else if (pace.pause !== undefined) {
        body.pause();
        setTimeout(() => body.resume(), pace.pause(scene.random));
      }
    });
    body.once("end", () => {
      if (came === size) resolve();
      else reject(new Error(`an answer of ${size} bytes ended after ${came}`));
    });
    body.once("error", reject);
    body.once("close", () => reject(new Error(`an answer of ${size} bytes broke off after ${came}`)));
    body.resume();
  });
}

async function expectAnswer(scene: Scene, call: Call, size: number, pace?: Pace): Promise<void> {
  const { status, headers, body } = await call.answer;
  if (status !== 200) {
    const text = (await body.toArray()).join("").slice(0, 300);
    throw new Error(`${status} ${text}`);
  }
  if (headers["x-mark"] !== scene.mark) throw new MixedUp(`${scene.mark} got the head of ${String(headers["x-mark"])}`);
  await readBody(scene, call, body, size, pace);
}

async function get(scene: Scene, path: string, size: number, pace?: Pace): Promise<void> {
  const call = ask(scene, "GET", path);
  call.body.end();
  await expectAnswer(scene, call, size, pace);
}

const framings = ["", "&framing=chunked"];

/** One object of about 2 kB. */
const small: Behaviour = async (scene) => {
  const size = 500 + scene.random.number(3_000);
  const name = `/api/v1/namespaces/soak/configmaps/${scene.mark}`;
  await get(scene, `${name}?size=${size}${scene.random.pick(framings)}`, size);
};

const listPath = (scene: Scene, size: number) => `/api/v1/pods?size=${size}${scene.random.pick(framings)}`;

/** A list of up to 5 MB. */
const list: Behaviour = async (scene) => {
  const size = 100_000 + scene.random.number(scene.random.chance(0.2) ? 5_000_000 : 500_000);
  await get(scene, listPath(scene, size), size);
};

/** Reads a list slowly, and at times not at all. */
const slowReader: Behaviour = async (scene) => {
  const size = 500_000 + scene.random.number(1_500_000);
  const pause = (random: Random) => (random.chance(0.02) ? 1_000 : random.number(25));
  await get(scene, listPath(scene, size), size, { pause });
};

/** Writes a body whose length is told, or in chunks. */
async function write(scene: Scene, size: number, pace: { piece: number; pause: number; leaveAfter?: number }) {
  const pattern = new Pattern(scene.mark);
  const back = scene.random.number(4_000);
  const told: Record<string, string> = scene.random.chance(0.5) ? { "content-length": String(size) } : {};
  // Node ends a body over HTTP/2 before it takes its request back, so a short one is no fault then.
  const whole: Record<string, string> = pace.leaveAfter === undefined ? { "x-size": String(size) } : {};
  const call = ask(scene, "POST", `/api/v1/namespaces/soak/configmaps?size=${back}`, { ...whole, ...told });
  // An answer may come before the body is out: then nobody wants the rest.
  const answered = { yes: false };
  const answer = expectAnswer(scene, call, back).finally(() => (answered.yes = true));
  const settled = answer.catch(() => undefined);
  for (let at = 0; at < size && !answered.yes; ) {
    const bytes = pattern.bytes(at, Math.min(pace.piece, size - at));
    at += bytes.length;
    if (at >= (pace.leaveAfter ?? Number.POSITIVE_INFINITY)) {
      call.cancel();
      throw new Left();
    }
    if (!call.body.write(bytes)) await Promise.race([drained(call.body), settled]);
    if (pace.pause > 0) await sleep(scene.random.number(pace.pause));
  }
  call.body.end();
  await answer;
}

const upload: Behaviour = async (scene) => {
  const size = 1 + scene.random.number(scene.random.chance(0.2) ? 1_000_000 : 20_000);
  await write(scene, size, { piece: 16_384, pause: 0 });
};

const slowWriter: Behaviour = async (scene) => {
  await write(scene, 5_000 + scene.random.number(20_000), { piece: 700, pause: 150 });
};

/** Follows events to their end, or until it has seen enough of them. */
async function follow(scene: Scene, count: number, every: number, pace: Pace): Promise<void> {
  const path = `/api/v1/namespaces/soak/pods?watch=true&count=${count}&every=${every}`;
  await get(scene, path, count * lineLength, pace);
}

const watch: Behaviour = async (scene) => {
  const count = 10 + scene.random.number(40);
  const pace = scene.random.chance(0.5) ? { leaveAfter: lineLength * (1 + scene.random.number(count)) } : {};
  await follow(scene, count, 20 + scene.random.number(100), pace);
};

/** A watch that outlives several tokens. */
const longWatch: Behaviour = async (scene) => {
  await follow(scene, 60 + scene.random.number(60), 250, { untilOver: true });
};

/** Gone at some moment: before the answer, in the middle of it, in the middle of a body. */
const leave: Behaviour = async (scene) => {
  const kind = scene.random.number(4);
  if (kind === 0)
    await get(scene, listPath(scene, 2_000_000), 2_000_000, { leaveAfter: 1 + scene.random.number(1_000_000) });
  else if (kind === 1) {
    const size = 10_000 + scene.random.number(300_000);
    await write(scene, size, { piece: 10_000, pause: 10, leaveAfter: 1 + scene.random.number(size) });
  } else {
    const call = ask(scene, "GET", `/api/v1/namespaces/soak/configmaps/x?size=2000&hold=${kind === 2 ? 0 : 200}`);
    call.body.end();
    await sleep(scene.random.number(100));
    call.cancel();
    throw new Left();
  }
};

/** Bytes both ways after an upgrade, as exec does; over HTTP/1.1, and it takes the connection. */
const exec: Behaviour = async (scene) => {
  const pattern = new Pattern(scene.mark);
  const { headers, socket, early } = await scene.wire.upgrade({
    method: "GET",
    path: `/api/v1/namespaces/soak/pods/${scene.mark}/exec?command=cat`,
    headers: { "x-mark": scene.mark, "x-sent": String(Date.now()) },
  });
  if (headers["x-mark"] !== scene.mark)
    throw new MixedUp(`${scene.mark} got the stream of ${String(headers["x-mark"])}`);
  const size = 1_000 + scene.random.number(scene.random.chance(0.3) ? 2_000_000 : 100_000);
  const leaveAfter = scene.random.chance(0.3) ? scene.random.number(size) : undefined;
  const writing = (async () => {
    for (let at = 0; at < size && !socket.destroyed; ) {
      const bytes = pattern.bytes(at, Math.min(size - at, 1 + scene.random.number(16_384)));
      at += bytes.length;
      if (!socket.write(bytes)) await drained(socket);
      if (scene.random.chance(0.1)) await sleep(scene.random.number(20));
    }
    socket.end();
  })();
  writing.catch(() => undefined);
  if (early.length > 0) socket.unshift(early);
  const cancel = () => void socket.destroy();
  const call = { cancel } as Call;
  await readBody(scene, call, socket, size, leaveAfter === undefined ? {} : { leaveAfter });
  await writing;
};

/** What there is, and how often each is chosen. */
const behaviours: Record<string, { act: Behaviour; weight: number }> = {
  small: { act: small, weight: 60 },
  list: { act: list, weight: 4 },
  upload: { act: upload, weight: 12 },
  watch: { act: watch, weight: 5 },
  slowReader: { act: slowReader, weight: 2 },
  slowWriter: { act: slowWriter, weight: 2 },
  leave: { act: leave, weight: 8 },
  exec: { act: exec, weight: 5 },
  longWatch: { act: longWatch, weight: 0 },
};

export type BehaviourName = keyof typeof behaviours;

export function behaviour(name: BehaviourName): Behaviour {
  const found = behaviours[name];
  if (found === undefined) throw new Error(`nobody does ${name}`);
  return found.act;
}

/** One of them, as often as its weight says. */
export function pickBehaviour(random: Random, protocol: "h1" | "h2"): BehaviourName {
  const possible = Object.entries(behaviours).filter(([name]) => protocol === "h1" || name !== "exec");
  let at = random.number(possible.reduce((sum, [, { weight }]) => sum + weight, 0));
  for (const [name, { weight }] of possible) {
    at -= weight;
    if (at < 0) return name;
  }
  return "small";
}
