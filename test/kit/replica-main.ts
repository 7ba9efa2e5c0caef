import { createJsonLog, openApiServer, readKubeconfig, runMain, systemClock } from "@kube-connector/core";
// oxlint-disable-next-line import/no-relative-packages -- the process is no part of the proxy's index
import { readConfig } from "../../proxy/src/config.ts";
// oxlint-disable-next-line import/no-relative-packages -- as above
import { startProxyProcess } from "../../proxy/src/process.ts";

// The proxy's main.ts, but for one thing: its targets may be on this machine.

await runMain(async (argv, env) => {
  const config = readConfig(argv, env);
  const log = createJsonLog(config.logLevel, {}, { write: (line) => void process.stderr.write(line) });
  const api = openApiServer(await readKubeconfig(config.kubeconfig ?? ""));
  return await startProxyProcess({ config, api, clock: systemClock, log, allowLoopbackTargets: true });
});
