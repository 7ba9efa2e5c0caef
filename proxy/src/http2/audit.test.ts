import { once } from "node:events";
import { defaultCallerLimits } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { ask, type Http2ProxyOptions, http2Relays, startHttp2Proxy } from "../../../test/kit/http2.ts";
import { Refusal } from "../answers.ts";
import type { AuditRecord } from "../audit/record.ts";

// Over HTTP/2 too each request is in the audit log, keeps to its caller's limits, and can be seen while it is open.

const sinkOf = (records: AuditRecord[]) => ({ record: (one: AuditRecord) => void records.push(one), check: () => {} });

describe.each(http2Relays)("HTTP/2 by %s", (by) => {
  const start = (options: Http2ProxyOptions = {}) => startHttp2Proxy({ http2: by, ...options });

  test("each stream has its line: allowed, denied, malformed, taken back; a watch has one at its start too", async () => {
    const records: AuditRecord[] = [];
    await using world = await start({
      audit: sinkOf(records),
      onStream: (stream, headers) => {
        stream.respond({ ":status": 200, "audit-id": "00000000-0000-4000-8000-000000000001" });
        stream.write("event");
        if (headers[":path"] === "/quick") stream.end();
      },
    });
    const session = await world.session();
    await ask(session, world.request("/quick"));
    await ask(session, world.request("/quick", { "impersonate-user": "x" }));
    await ask(session, world.request("/quick", { ":authority": "elsewhere" }));
    const watch = session.request(world.request("/api/v1/namespaces/a/pods?watch=1"));
    await once(watch, "data");
    expect(world.proxy.openStreams().find(({ protocol }) => protocol === "h2")).toMatchObject({
      path: "/api/v1/namespaces/a/pods",
      state: "answering",
      bytesOut: 5,
    });
    watch.close(8);
    await expect.poll(() => records.filter(({ stage }) => stage === "ResponseComplete").length).toBe(4);
    expect(records).toMatchObject([
      { code: 200, decision: "allow", protocol: "h2", bytesOut: 5, targetAuditId: expect.stringContaining("0001") },
      { code: 403, decision: "deny", protocol: "h2" },
      { code: 421, decision: "deny", protocol: "h2" },
      { code: 200, stage: "ResponseStarted", info: { verb: "watch" } },
      { code: 200, stage: "ResponseComplete", reason: "ClientGone" },
    ]);
    expect(records[3]?.id).toBe(records[4]?.id);
  });

  test("nothing passes while the audit log cannot be written", async () => {
    const check = () => {
      throw new Refusal(503, "The audit log is down");
    };
    await using world = await start({ audit: { record: () => {}, check } });
    expect((await ask(await world.session(), world.request("/"))).status).toBe(503);
    expect(world.h2target.seen).toEqual([]);
  });

  test("a caller over its limits is refused with 429 and Retry-After, and what has ended counts no more", async () => {
    await using world = await start({
      onStream: (stream) => {
        stream.respond({ ":status": 200 });
        stream.write("event");
      },
    });
    world.source.put({ ...world.connector, limits: { ...defaultCallerLimits, streams: 3 } });
    const session = await world.session();
    const open = Array.from({ length: 3 }, () => session.request(world.request("/watch?watch=1")));
    await Promise.all(open.map((stream) => once(stream, "data")));
    const { status, headers } = await ask(session, world.request("/x"));
    expect([status, headers["retry-after"]]).toEqual([429, "1"]);
    for (const stream of open) stream.close(8);
    await expect.poll(() => world.proxy.openStreams().filter(({ protocol }) => protocol === "h2")).toEqual([]);
    const again = session.request(world.request("/watch?watch=1"));
    await once(again, "data");
    again.close(8);
  });
});
