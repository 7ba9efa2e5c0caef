import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { ask, code32, frame, http2Relays, literal, startHttp2Proxy } from "../../../test/kit/http2.ts";

// Random frames from either side, valid ones among them: the proxy never fails by itself, and goes on serving others.
// FUZZ_ROUNDS=1000 takes longer.

const allRounds = Number(process.env.FUZZ_ROUNDS ?? 40);
/** It is our own code that is to be searched; node:http2 is to bear it as well. */
const roundsOf = { own: allRounds, node: Math.ceil(allRounds / 4) };

function createRandom(seed: number) {
  let state = seed;
  return (most: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * most);
  };
}

type Random = ReturnType<typeof createRandom>;

/** A frame that is most often nearly right. */
function randomFrame(random: Random, block: () => Buffer): Buffer {
  const id = random(10) === 0 ? random(20) : 1 + 2 * random(8);
  const noise = () => Buffer.from(Array.from({ length: random(40) }, () => random(256)));
  const choices: (() => Buffer)[] = [
    () => frame(1, 4 + random(2), id, block()),
    () => frame(1, random(64), id, random(2) === 0 ? block() : noise()),
    () => frame(0, random(2), id, Buffer.alloc(random(3000), 0x61)),
    () => frame(0, 8 + random(2), id, Buffer.concat([Buffer.from([random(20)]), noise()])),
    () => frame(3, 0, id, code32(random(14))),
    () => frame(8, 0, random(3) === 0 ? 0 : id, code32(1 + random(100_000))),
    () => frame(4, 0, 0, Buffer.concat([Buffer.from([0, 4]), code32(random(100_000))])),
    () => frame(4, 0, 0, Buffer.concat([Buffer.from([0, 1]), code32(random(9000))])),
    () => frame(6, random(2), 0, Buffer.alloc(8)),
    () => frame(9, random(8), id, random(2) === 0 ? block() : noise()),
    () => (random(10) === 0 ? frame(7, 0, 0, Buffer.concat([code32(random(30)), code32(0)])) : frame(4, 1, 0)),
    () =>
      random(10) === 0 ? frame(random(12), random(256), random(12), noise()) : frame(2, 0, id, Buffer.alloc(5, 1)),
  ];
  return choices[random(choices.length)]?.() ?? Buffer.alloc(0);
}

function createLog() {
  const failed: unknown[] = [];
  const ignore = () => undefined;
  const error = (sentence: string, fields: unknown) => void failed.push([sentence, fields]);
  const log = { debug: ignore, info: ignore, warn: ignore, error, with: () => log };
  return { log, failed };
}

test.each(http2Relays)("random frames of clients, HTTP/2 by %s", { timeout: 600_000 }, async (by) => {
  const { log, failed } = createLog();
  const rounds = roundsOf[by];
  await using world = await startHttp2Proxy({ http2: by, log, timeouts: { linger: 20 } });
  for (let round = 0; round < rounds; round++) {
    const random = createRandom(round + 1);
    const client = await world.frames(random(2) === 0 ? "forward" : "reverse");
    const block = () => (random(2) === 0 ? client.get(`/${random(100)}`) : client.post("/up", literal("x-a", "b")));
    for (let count = 0; count < 200 && !client.closed; count++) {
      client.send(randomFrame(random, block));
      if (random(10) === 0) await turn();
    }
    client.socket.destroy();
  }
  const session = await world.session();
  expect((await ask(session, world.request("/after"))).status).toBe(200);
  expect(failed).toEqual([]);
});

test.each(http2Relays)("random frames of targets, HTTP/2 by %s", { timeout: 600_000 }, async (by) => {
  const { log, failed } = createLog();
  const rounds = roundsOf[by];
  let seed = 0;
  await using world = await startHttp2Proxy({
    http2: by,
    log,
    timeouts: { linger: 20 },
    onRawTarget: (socket) => {
      const random = createRandom(++seed);
      const block = () => Buffer.concat([Buffer.from([0x88]), literal("x-a", "b".repeat(random(50)))]);
      socket.on("error", () => undefined);
      socket.write(frame(4, 0, 0));
      socket.on("data", () => {
        for (let count = random(20); count > 0; count--) socket.write(randomFrame(random, block));
      });
    },
  });
  for (let round = 0; round < rounds; round++) {
    const random = createRandom(round + 77);
    const client = await world.frames();
    for (let count = 0; count < 8 && !client.closed; count++) {
      client.send(
        frame(1, 4, 1 + 2 * count, client.post("/x")),
        frame(0, 1, 1 + 2 * count, Buffer.alloc(random(2000))),
      );
      for (let turns = 0; turns < 3; turns++) await turn();
    }
    client.socket.destroy();
  }
  expect(failed).toEqual([]);
  expect(world.proxy.openConnections()).toBeLessThan(rounds);
});
