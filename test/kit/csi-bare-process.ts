// The driver as a process that reaches its API server as a pod does, without the kubeconfig reader and its 83 MB.
// node csi-bare-process.ts API_URL FLAGS...

import { createJsonLog, openApiServer, runMain } from "@kube-connector/core";
import { readConfig, startDriver } from "@kube-connector/csi-driver";

await runMain(async ([url = "", ...argv], env) => {
  const config = readConfig(argv, env);
  const api = openApiServer({ url });
  const driver = await startDriver({ config, api, log: createJsonLog(config.logLevel, {}), version: "0.0.0-test" });
  return {
    done: driver.done,
    async stop() {
      await driver.stop();
      await api.stop();
    },
  };
});
