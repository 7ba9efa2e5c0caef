import { createJsonLog } from "@kube-connector/core";
import { expect, test } from "vitest";
import { requestText, startTestProxy } from "../../test/kit/test-proxy.ts";
import { noMetrics, type ProxyMetrics } from "./metrics.ts";

// What the proxy counts comes back to zero when everything has ended, and each request is one line and one count.

test("gauges return to zero after requests, watches, upgrades, refusals and aborts", async () => {
  const gauges: Record<string, number> = {};
  const add = (name: string, change: number) => {
    gauges[name] = (gauges[name] ?? 0) + change;
  };
  const codes: number[] = [];
  const metrics: ProxyMetrics = {
    ...noMetrics,
    tunnels: (change) => add("tunnels", change),
    streams: (kind, change) => add(`streams ${kind}`, change),
    upstreamConnections: (state, change) => add(`upstream ${state}`, change),
    requestEnded: ({ code }) => codes.push(code),
  };
  const lines: { msg: string; status?: number; bytesOut?: number }[] = [];
  const log = createJsonLog("info", {}, { write: (line) => lines.push(JSON.parse(line) as (typeof lines)[0]) });
  await using room = await startTestProxy({
    metrics,
    log,
    onConnection: (connection) => {
      connection.socket.on("data", (bytes: Buffer) => {
        const text = bytes.toString();
        if (text.includes("/exec")) {
          connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi");
        } else if (text.includes("watch=1")) {
          connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
        } else connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
      });
    },
  });
  const clients = await Promise.all([room.forward(), room.forward(), room.forward(), room.forward()]);
  const [plain, watch, exec, gone] = clients;
  await plain.ask(requestText("GET", "/", room.authority));
  await plain.ask(requestText("GET", "//", room.authority));
  watch.send(requestText("GET", "/api/v1/pods?watch=1", room.authority));
  exec.send(requestText("GET", "/exec", room.authority, "Connection: Upgrade\r\nUpgrade: websocket\r\n"));
  gone.send(requestText("GET", "/api/v1/pods?watch=1", room.authority));
  await Promise.all([watch, exec, gone].map((client) => client.until("hi")));
  expect(gauges).toMatchObject({ tunnels: 4, "streams watch": 2, "streams splice": 1, "upstream active": 3 });
  for (const client of clients) client.socket.destroy();
  await room.proxy.stop();
  expect(
    Object.values(gauges).every((value) => value === 0),
    JSON.stringify(gauges),
  ).toBe(true);
  expect(codes.toSorted((a, b) => a - b)).toEqual([101, 200, 200, 200, 400]);
  const told = lines.filter(({ status }) => status !== undefined);
  expect(told).toHaveLength(5);
  expect(told.find(({ status }) => status === 101)).toMatchObject({ bytesOut: 2 });
  expect(lines.filter(({ msg }) => msg === "Tunnel closed")).toHaveLength(4);
});

test("what has its line in an audit log has none at info", async () => {
  const told: unknown[] = [];
  const lines: string[] = [];
  const log = createJsonLog("info", {}, { write: (line) => lines.push(line) });
  const audit = { record: ({ method }: { method: string }) => told.push(method), check() {} };
  await using room = await startTestProxy({ audit, log });
  const client = await room.forward();
  await client.ask(requestText("GET", "/", room.authority));
  client.socket.destroy();
  await expect.poll(() => told).toEqual(["GET", "CONNECT"]);
  expect(lines.filter((line) => /Tunnel closed|Request answered/.test(line))).toEqual([]);
});
