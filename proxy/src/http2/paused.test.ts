import { setTimeout as sleep } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import { expect, test } from "vitest";
import { code32, frame, startHttp2Proxy } from "../../../test/kit/http2.ts";

// A client is not read while its target takes nothing of what it has sent. When that target is gone there is nothing left to
// wait for: what the client says of its other streams counts.

test("a client that was not read is read again when its target is gone", async () => {
  const windows = 1 << 26;
  let target: TLSSocket | undefined;
  await using world = await startHttp2Proxy({
    onRawTarget: (socket) => {
      target = socket.on("error", () => undefined);
      const wide = Buffer.concat([Buffer.from([0, 4]), code32(windows)]);
      socket.write(Buffer.concat([frame(4, 0, 0, wide), frame(8, 0, 0, code32(windows))]));
      const answer = Buffer.concat([frame(1, 4, 1, Buffer.from([0x88])), frame(0, 1, 1, Buffer.from("answer"))]);
      // Takes the first request, and then nothing more.
      socket.once("data", () => setTimeout(() => socket.write(answer), 100));
      setTimeout(() => socket.pause(), 300);
    },
  });
  const client = await world.frames("forward", Buffer.concat([Buffer.from([0, 4]), code32(0)]));
  client.send(frame(1, 5, 1, client.get("/answered")));
  await client.until(({ type, id }) => type === 1 && id === 1);
  await sleep(400);
  client.send(frame(1, 4, 3, client.post("/up")));
  for (const stream of [0, 3]) await client.until(({ type, id }) => type === 8 && id === stream);
  const piece = frame(0, 0, 3, Buffer.alloc(16_384));
  for (let sent = 0; sent < 3000; sent += 1) client.socket.write(piece);
  // Until nobody takes anything more.
  for (let before = -1; before !== client.socket.writableLength; await sleep(300))
    before = client.socket.writableLength;
  expect(client.socket.writableLength).toBeGreaterThan(0);
  target?.destroy();
  client.send(frame(8, 0, 1, code32(100)));
  const rest = await client.until(({ type, id }) => type === 0 && id === 1);
  expect(rest?.payload.toString()).toBe("answer");
});
