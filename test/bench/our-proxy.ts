// Our proxy as a process of its own, before a target on loopback, which the image's program would refuse. Without an
// API server it asks nobody, counts nothing and logs nothing: the relay alone. With one it is everything that a cluster runs, the audit log if wanted.
import {
  type Clock,
  createJsonLog,
  type Log,
  openApiServer,
  runMain,
  Secret,
  silentLog,
  systemClock,
} from "@kube-connector/core";
import { type Caller, type Http2By, noMetrics, startDirectorySource, startProxy } from "@kube-connector/proxy";
// oxlint-disable-next-line import/no-relative-packages -- the process is no part of the proxy's index
import { startProxyProcess } from "../../proxy/src/process.ts";

interface Asked {
  directory: string;
  forward: number;
  reverse: number;
  audit: "off" | "stdout" | { file: string };
  http2: Http2By;
  api?: { url: string; ca: string; token: string };
}

const unlimited = { connections: 1_000_000, connectionsPerAddress: 1_000_000 };
const caller: Caller = {
  user: "system:serviceaccount:team-a:bench",
  uid: "u",
  groups: [],
  extra: {},
  namespace: "team-a",
  pod: undefined,
};
const at = (port: number) => ({ host: "127.0.0.1", port });

await runMain(async (argv) => {
  const asked = JSON.parse(argv[0] ?? "{}") as Asked;
  const clock: Clock = systemClock;
  // Without an audit log the process log has a line for each request instead.
  const level = asked.audit === "off" ? "warn" : "info";
  const log: Log = asked.api === undefined ? silentLog : createJsonLog(level, {}, 2);
  const doors = { forwardAddress: at(asked.forward), reverseAddress: at(asked.reverse) };
  const { api } = asked;
  if (api === undefined) {
    const proxy = await startProxy({
      forward: doors.forwardAddress,
      reverse: doors.reverseAddress,
      connectors: startDirectorySource({ directory: asked.directory, clock, log }),
      authenticator: { tunnel: async () => undefined, request: () => caller, streaming: async () => undefined },
      authorizer: { may: () => undefined },
      metrics: noMetrics,
      clock,
      log,
      timeouts: { drainWait: 0, drainGrace: 0 },
      limits: unlimited,
      allowLoopbackTargets: true,
      http2: asked.http2,
    });
    console.log("ready");
    return proxy;
  }
  const whole = await startProxyProcess({
    config: {
      source: { directory: asked.directory },
      ...doors,
      privateAddress: at(0),
      issuer: undefined,
      kubeconfig: undefined,
      reviewsPerSecond: 500,
      ...unlimited,
      drainDelay: 0,
      drainGrace: 0,
      audit: asked.audit,
      http2: asked.http2,
      logLevel: level,
    },
    api: openApiServer({ url: api.url, ca: api.ca, token: async () => new Secret(api.token) }),
    clock,
    log,
    allowLoopbackTargets: true,
  });
  console.log("ready");
  return whole;
});
