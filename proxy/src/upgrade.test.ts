import { expect, test } from "vitest";
import { parseRequestHead, parseResponseHead } from "./http1/head.ts";
import { isSwitchTo, wantedUpgrade } from "./upgrade.ts";

// Only WebSocket by GET and SPDY/3.1 are upgrades; a connection is handed over only for a 101 to that same protocol.

const wanted = (method: string, ...lines: string[]) =>
  wantedUpgrade(parseRequestHead([`${method} / HTTP/1.1`, "Host: a", ...lines].join("\r\n")));

test.each([
  ["GET", ["Connection: Upgrade", "Upgrade: websocket"], "websocket"],
  ["GET", ["Connection: keep-alive, upgrade", "Upgrade: WebSocket"], "WebSocket"],
  ["POST", ["Connection: Upgrade", "Upgrade: SPDY/3.1"], "SPDY/3.1"],
  ["POST", ["Connection: Upgrade", "Upgrade: websocket"], undefined],
  ["GET", ["Upgrade: websocket"], undefined],
  ["GET", ["Connection: Upgrade"], undefined],
  ["GET", ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"], undefined],
  ["GET", ["Connection: Upgrade", "Upgrade: websocket, h2c"], undefined],
  ["GET", ["Connection: Upgrade", "Upgrade: websocket", "Upgrade: websocket"], undefined],
  ["GET", ["Connection: not-upgrade", "Upgrade: websocket"], undefined],
])("%s with %j upgrades to %s", (method, lines, protocol) => {
  expect(wanted(method, ...lines)).toBe(protocol);
});

test.each([
  [["Connection: Upgrade", "Upgrade: SPDY/3.1"], true],
  [["Connection: upgrade", "Upgrade: spdy/3.1"], true],
  [["Connection: Upgrade", "Upgrade: websocket"], false],
  [["Upgrade: SPDY/3.1"], false],
  [["Connection: Upgrade"], false],
  [["Connection: Upgrade", "Upgrade: SPDY/3.1", "Upgrade: h2c"], false],
])("a 101 with %j is the one that was asked for: %s", (lines, is) => {
  const head = parseResponseHead(["HTTP/1.1 101 Switching Protocols", ...lines].join("\r\n"), "GET");
  expect(isSwitchTo(head, "SPDY/3.1")).toBe(is);
});
