import { inspect } from "node:util";
import { createJsonLog, Secret } from "@kube-connector/core";
import { expect, test } from "vitest";
// oxlint-disable-next-line import/no-relative-packages -- what a process serves at /metrics is no part of the proxy's index
import { createPrometheusMetrics } from "../../../proxy/src/prometheus-metrics.ts";
import { type Answer, type Attempt, startAttackRoom, ways } from "../../kit/attacks.ts";
import { createTestAudit } from "../../kit/audit-log.ts";
import { valuesOf } from "../../kit/lenient-target.ts";
import { basic, callerToken, connectText, tunnelToken } from "../../kit/test-proxy.ts";

// No credential is anywhere but where it has to be. The same of whole processes, with real tokens: proxy-process.test.ts and
// controller-secrets.test.ts; of the MetadataOnly effect: policy-metadata.test.ts.

const canary = {
  stored: "canary-stored-3f9c1d",
  request: `${callerToken}-canary-7a21e0`,
  stranger: "canary-stranger-55d0aa",
  header: "canary-header-0b7d4e",
  query: "canary-query-c9115f",
  body: "canary-body-18e2b6",
};

test.each(ways)(
  "attack 28: canaries are in no log at any level, error, audit line, metric, status or dump ($name)",
  async (way) => {
    const said: string[] = [];
    const audit = createTestAudit();
    const metrics = createPrometheusMetrics(() => [], { isAuditDown: () => false });
    await using room = await startAttackRoom(way, {
      log: createJsonLog("debug", {}, { write: (line) => said.push(line) }),
      audit,
      metrics,
      respond: ({ head }) => ({ status: head.includes("/refuse") ? 401 : 200, body: "taken" }),
      connector: (connector) => ({ ...connector, token: new Secret(canary.stored) }),
    });
    const authorization = [`Bearer ${canary.request}`];
    const stranger = [`Bearer ${canary.stranger}`];
    const answers: Answer[] = [];
    const ask = async (attempt: Attempt) => {
      const answer = await room.ask({ authorization, ...attempt });
      answers.push(answer);
      return answer.status;
    };
    const everywhere = {
      path: `/api/v1/namespaces/a/secrets?token=${canary.query}`,
      lines: [
        `X-Secret: ${canary.header}`,
        `Cookie: ${canary.header}`,
        `Proxy-Authorization: Bearer ${canary.stranger}`,
      ],
      body: canary.body,
      method: "POST",
    };
    expect(await ask(everywhere)).toBe(200);
    const [request] = room.target.requests;
    // The canaries did come by, so the search below would find them.
    expect(valuesOf(request?.head ?? "", "authorization")).toEqual([`Bearer ${canary.stored}`]);
    for (const mark of [canary.header, canary.query, canary.body])
      expect(request?.head + (request?.body ?? "")).toContain(mark);
    expect(await ask({ ...everywhere, path: `/refuse?${canary.query}` })).toBe(401);
    expect(await ask({ ...everywhere, authorization: stranger })).toBe(401);
    expect(await ask({ ...everywhere, authorization: [...authorization, ...stranger] })).toBe(401);
    expect(await ask({ ...everywhere, authorization: [`Basic ${canary.stranger}`] })).toBe(401);
    expect(await ask({ ...everywhere, lines: [`Impersonate-User: ${canary.header}`] })).toBe(403);
    expect(await ask({ ...everywhere, host: "elsewhere.example" })).toBe(421);
    expect(await ask({ ...everywhere, path: `/a/../b?${canary.query}` })).toBe(400);
    expect(await ask({ ...everywhere, path: `/a?${canary.query}=%zz` })).toBe(400);
    // Malformed where a credential stands.
    await ask({ ...everywhere, lines: [`X: ${canary.header}\0`] });
    await ask({ ...everywhere, lines: [`Authorization ${canary.header}: x`] });
    await ask({ ...everywhere, lines: [`X: ${canary.header}${"x".repeat(70_000)}`] });
    await ask({ ...everywhere, trailers: [`Authorization: Bearer ${canary.stranger}`] });
    const open = await room.open();
    room.source.put({ ...room.connector, tls: { ...room.connector.tls, caBundle: room.connectorCa.certificate } });
    await room.askFriendly({ authorization }).then(
      (answer) => answers.push(answer),
      () => undefined,
    );
    for (const password of [canary.stranger, `${tunnelToken}:${canary.stranger}`, ""]) {
      const client = await room.raw();
      client.send(connectText(room.authority, basic("team-a/prod", password)));
      client.send(connectText("elsewhere.example:443", basic("team-a/prod", `${tunnelToken}${canary.stranger}`)));
      await client.until("\r\n\r\n");
      client.socket.destroy();
    }
    const streams = JSON.stringify(room.proxy.openStreams());
    const dumps = [room.connector, room.source.all(), room.proxy].map((one) =>
      inspect(one, { depth: 20, showHidden: true, maxStringLength: null, maxArrayLength: null }),
    );
    const shown = [JSON.stringify(room.connector), String(room.connector.token), inspect(room.connector.token)];
    open.raw.socket.destroy();
    await room.proxy.stop();
    const told = {
      log: said.join(""),
      audit: audit.lines.join(""),
      metrics: await metrics.text(),
      streams,
      dumps: [...dumps, ...shown].join(""),
      answers: answers.map(({ head, body }) => head + body).join(""),
    };
    expect(told.log).toContain("/api/v1/namespaces/a/secrets");
    expect(told.audit).toContain("/api/v1/namespaces/a/secrets");
    expect(told.metrics).toMatch(/requests_total\{.*code="403".*\} [1-9]/);
    for (const [where, text] of Object.entries(told)) {
      for (const mark of Object.values(canary)) {
        for (const form of [
          mark,
          Buffer.from(mark).toString("base64").slice(0, 20),
          Buffer.from(mark).toString("hex"),
        ]) {
          expect(text.includes(form), `${form} in ${where}`).toBe(false);
        }
      }
      expect(text, where).not.toContain("PRIVATE KEY");
    }
  },
);
