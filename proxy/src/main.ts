import {
  createJsonLog,
  inClusterAccess,
  openApiServer,
  readKubeconfig,
  runMain,
  systemClock,
} from "@kube-connector/core";
import { readConfig } from "./config.ts";
import { startProxyProcess } from "./process.ts";

const standardError = 2;

await runMain(async (argv, env) => {
  const config = readConfig(argv, env);
  // Standard output is the audit log's: it may come in pieces that a line of ours must not break.
  const log = createJsonLog(config.logLevel, { room: "proxy" }, standardError);
  const access = config.kubeconfig === undefined ? await inClusterAccess(env) : await readKubeconfig(config.kubeconfig);
  return await startProxyProcess({ config, api: openApiServer(access), clock: systemClock, log });
});
