import { randomBytes } from "node:crypto";
import type http2 from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { type Handler, http2Relays, startHttp2Proxy } from "../../../test/kit/http2.ts";
import { createRandom, type Random } from "../../../test/kit/random.ts";

// Streams of one connection share its windows and what waits for them. Whatever both sides do with windows, and however some
// streams end, each of the others comes to its end, with its own bytes.

const streams = 24;
const seeds = Array.from({ length: Number(process.env.LIVENESS_SEEDS ?? 4) }, (_, index) => index + 1);
/** Milliseconds after which a stream waits for something that will not come. */
const patience = 15_000;

/** How a stream ends: whole, or by its client, its target, or us. */
const kinds = ["whole", "whole", "whole", "left", "reset", "unread", "refused"] as const;
type Kind = (typeof kinds)[number];

const windowOf = (random: Random) => (random.chance(0.2) ? random.number(2_000_000) : 1 + random.number(70_000));

describe.each(http2Relays)("HTTP/2 by %s", (by) => {
  test.for(seeds)("with seed %i", { timeout: 60_000 }, async (seed) => {
    const random = createRandom(seed);
    const onStream: Handler = (stream, headers) => {
      const kind = String(headers[":path"]).slice(1) as Kind;
      if (stream.destroyed) return;
      stream.respond({ ":status": 200 });
      if (kind === "unread") stream.end();
      else void sleep(random.number(100)).then(() => stream.pipe(stream));
      if (kind === "reset") setTimeout(() => stream.close(2), random.number(200));
    };
    await using world = await startHttp2Proxy({
      http2: by,
      onStream,
      settings: { initialWindowSize: windowOf(random) },
    });
    const rules = [{ verbs: ["*"], nonResourceURLs: ["/whole", "/left", "/reset", "/unread"] }];
    world.source.put({ ...world.connector, policy: { rules } });
    // Whoever is asked takes a while, and some are refused only then.
    world.access.may = async () => {
      const refused = random.chance(0.15);
      await sleep(random.number(100));
      if (refused) throw new Fault("permission_denied", "team-a may not");
    };
    const session = await world.session("forward", { initialWindowSize: windowOf(random) });
    session.setLocalWindowSize(65_535 + random.number(200_000));
    const change = setInterval(() => {
      const one = random.pick([session, ...world.h2target.sessions]);
      if (!one.destroyed) one.settings({ initialWindowSize: windowOf(random) });
    }, 60);
    const ends = Array.from({ length: streams }, async () => {
      await sleep(random.number(400));
      const kind = random.pick(kinds);
      const headers = world.request(`/${kind}`, { ":method": "POST" });
      const outcome = Promise.race([carry(session, headers, kind, random), sleep(patience, "waits for ever")]);
      return `${kind}: ${await outcome}`;
    });
    const found = await Promise.all(ends);
    clearInterval(change);
    for (const one of found)
      expect(one).toMatch(/^(whole: (whole|403)|(left|reset|unread|refused): (?!waits|mixed).*)$/);
  });
});

/** Sends a body and reads what comes back, both at some pace; how it ended. */
async function carry(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  kind: Kind,
  random: Random,
): Promise<string> {
  const body = randomBytes(random.number(random.chance(0.3) ? 300_000 : 30_000));
  const stream = session.request(headers, { endStream: false });
  const came: Buffer[] = [];
  let status = 0;
  stream.on("error", () => undefined);
  stream.on("response", (head) => (status = Number(head[":status"])));
  stream.on("data", (chunk: Buffer) => {
    came.push(chunk);
    if (!random.chance(0.1)) return;
    stream.pause();
    setTimeout(() => stream.resume(), random.number(50));
  });
  // Node's client does not close a stream of which an answer came before its body was out.
  const over = new Promise((resolve) => stream.once("close", resolve).once("end", resolve));
  if (kind === "left") setTimeout(() => stream.close(8), random.number(300));
  const writing = async () => {
    for (let at = 0; at < body.length && !stream.closed; ) {
      const piece = body.subarray(at, at + 1 + random.number(30_000));
      at += piece.length;
      if (!stream.write(piece)) await Promise.race([new Promise((resolve) => stream.once("drain", resolve)), over]);
    }
    stream.end();
  };
  await Promise.all([writing(), over]);
  stream.close();
  if (status !== 200) return String(status);
  const back = Buffer.concat(came);
  if (!back.equals(body.subarray(0, back.length))) return "mixed up";
  return back.length === body.length ? "whole" : `broke off with ${stream.rstCode}`;
}
