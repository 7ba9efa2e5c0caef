import { once } from "node:events";
import type { Policy } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { ask, http2Relays, startHttp2Proxy } from "../../../test/kit/http2.ts";

// The policy over HTTP/2: what it forbids never reaches the target, a change ends what it forbids and nothing else, and
// where only metadata may leave there is no HTTP/2.

const pods = "/api/v1/namespaces/a/pods";
const metadataOnly: Policy = {
  rules: [{ verbs: ["*"], apiGroups: [""], resources: ["secrets"], effect: "MetadataOnly" }],
};

describe.each(http2Relays)("HTTP/2 by %s", (by) => {
  async function start(policy: Policy) {
    const world = await startHttp2Proxy({
      http2: by,
      onStream: (stream) => {
        stream.respond({ ":status": 200 });
        stream.write("event");
      },
    });
    world.source.put({ ...world.connector, policy });
    return world;
  }

  test("what a policy forbids is refused on its stream, and the target sees nothing", async () => {
    await using world = await start({ preset: "ReadOnly" });
    const session = await world.session();
    const requests = [
      world.request(`${pods}/x`, { ":method": "DELETE" }),
      world.request("/api/v1/namespaces/a/secrets"),
      world.request(`${pods}/x/exec?command=ls`),
      world.request(`${pods}/x/proxy/`),
    ];
    for (const request of requests) {
      const { status, body } = await ask(session, request);
      expect([status, JSON.parse(body)]).toEqual([403, expect.objectContaining({ reason: "Forbidden" })]);
    }
    expect(world.h2target.seen).toEqual([]);
  });

  test("a policy that only warns does so in the answer", async () => {
    await using world = await start({ preset: "ReadOnly", mode: "Warn" });
    const stream = (await world.session()).request(world.request(`${pods}/x`, { ":method": "DELETE" }));
    const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
    expect([headers[":status"], headers.warning]).toEqual([200, expect.stringContaining("its mode is Warn")]);
    stream.close();
  });

  test("a policy that changes ends the streams that it forbids, and no others", async () => {
    await using world = await start({ preset: "Full" });
    const session = await world.session();
    const [secrets, watch] = [
      session.request(world.request("/api/v1/namespaces/a/secrets?watch=1")),
      session.request(world.request(`${pods}?watch=1`)),
    ];
    secrets.on("error", () => undefined);
    await Promise.all([once(secrets, "data"), once(watch, "data")]);
    world.source.put({ ...world.connector, policy: { preset: "ReadOnly" } });
    await expect.poll(() => secrets.rstCode).toBe(8);
    expect(watch.closed).toBe(false);
    watch.close();
  });

  test("where only metadata may leave clients get HTTP/1.1, and connections that are open are left", async () => {
    await using world = await start({ preset: "Full" });
    const session = await world.session();
    const goodbye = once(session, "goaway");
    world.source.put({ ...world.connector, policy: metadataOnly });
    await goodbye;
    for (const door of ["forward", "reverse"] as const) expect((await world.tls(door)).alpnProtocol).toBe("http/1.1");
  });
});
