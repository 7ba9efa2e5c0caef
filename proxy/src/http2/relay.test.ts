import { expect, test } from "vitest";
import { ask, startHttp2Proxy } from "../../../test/kit/http2.ts";
import { testToken } from "../../../test/kit/test-proxy.ts";

// HTTP/2 through both doors to a target that speaks it: each request is let through or refused on its own stream, what
// leaves us holds our credential alone, and bodies pass both ways at the speed of whoever takes them.

for (const door of ["forward", "reverse"] as const) {
  test(`a request through the ${door} door reaches the target with the stored token`, async () => {
    await using world = await startHttp2Proxy();
    const session = await world.session(door);
    const { status, headers } = await ask(session, world.request("/api/v1/pods", { "x-mark": "1" }, door));
    const echoed = JSON.parse(String(headers.echo)) as Record<string, string>;
    expect(status).toBe(200);
    expect(echoed).toMatchObject({
      ":path": "/api/v1/pods",
      ":authority": world.authority,
      authorization: `Bearer ${testToken}`,
      "x-mark": "1",
    });
  });
}
