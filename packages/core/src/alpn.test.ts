import * as tls from "node:tls";
import { expect, test } from "vitest";
import { alpnOf } from "./alpn.ts";

// What Node makes of it for each connection: the names, and no more memory than they are long.

test("the names in their order, in a buffer of their own", () => {
  const { convertALPNProtocols } = tls as unknown as {
    convertALPNProtocols(this: void, offered: DataView, out: { ALPNProtocols?: Buffer }): void;
  };
  const out: { ALPNProtocols?: Buffer } = {};
  convertALPNProtocols(alpnOf("h2", "http/1.1"), out);
  expect(out.ALPNProtocols?.toString("latin1")).toBe("\u0002h2\u0008http/1.1");
  expect(out.ALPNProtocols?.buffer.byteLength).toBe(12);
});
