import { expect, test } from "vitest";
import { callerToken, requestText, startTestProxy, testToken } from "../../test/kit/test-proxy.ts";

// A request that comes in at either door, with a valid request token, reaches the target with the stored token in place
// of the caller's, and its answer comes back as it was.

test("a GET through the forward door reaches the target with the stored token", async () => {
  await using room = await startTestProxy();
  const client = await room.forward();
  const answer = await client.ask(requestText("GET", "/api/v1/pods?limit=5", room.authority));
  expect(answer.status).toBe(200);
  expect(answer.body).toContain("GET /api/v1/pods?limit=5 HTTP/1.1\r\n");
  expect(answer.body).toContain(`Authorization: Bearer ${testToken}\r\n`);
  expect(answer.body).not.toContain(callerToken);
  const second = await client.ask(requestText("GET", "/version", room.authority));
  expect(second.body).toContain("GET /version HTTP/1.1\r\n");
  expect(room.target.connections.length).toBe(1);
});

test("a GET through the reverse door reaches the target below the prefix", async () => {
  await using room = await startTestProxy({ prefix: "/kubernetes/global" });
  const client = await room.direct();
  const answer = await client.ask(requestText("GET", "/version", "c-prod.team-a.svc"));
  expect(answer.body).toContain("GET /kubernetes/global/version HTTP/1.1\r\n");
  expect(answer.body).toContain(`Host: ${room.authority}\r\n`);
});
