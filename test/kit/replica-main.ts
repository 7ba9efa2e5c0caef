import { setTimeout } from "node:timers/promises";
import { writeHeapSnapshot } from "node:v8";
import { createJsonLog, openApiServer, readKubeconfig, runMain, systemClock } from "@kube-connector/core";
// oxlint-disable-next-line import/no-relative-packages -- the process is no part of the proxy's index
import { readConfig } from "../../proxy/src/config.ts";
// oxlint-disable-next-line import/no-relative-packages -- as above
import { startProxyProcess } from "../../proxy/src/process.ts";
import type { ToReplica } from "./replica.ts";

// The proxy's main.ts, but for two things: its targets may be on this machine; and a parent with a channel to it is told
// its ports, and may ask what memory it holds.

const standardError = 2;

await runMain(async (argv, env) => {
  const config = readConfig(argv, env);
  const log = createJsonLog(config.logLevel, { room: "proxy" }, standardError);
  const api = openApiServer(await readKubeconfig(config.kubeconfig ?? ""));
  const running = await startProxyProcess({ config, api, clock: systemClock, log, allowLoopbackTargets: true });
  const { forwardPort: forward, reversePort: reverse, privatePort: internal } = running;
  process.send?.({ ports: { forward, reverse, internal } });
  process.on("message", (message: ToReplica) => void answer(message));
  process.once("disconnect", () => void running.stop());
  // The channel alone keeps no process alive.
  process.channel?.unref();
  return running;
});

async function answer({ ask, file }: ToReplica): Promise<void> {
  // What a collection lets go of has finalizers, the next one takes what these held; code is let go of after several.
  for (let round = 0; round < 10; round += 1) {
    globalThis.gc?.();
    await setTimeout(50);
  }
  if (ask === "snapshot") writeHeapSnapshot(file);
  process.send?.({ memory: process.memoryUsage() });
}
