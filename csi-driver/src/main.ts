import { createJsonLog, inClusterAccess, openApiServer, readKubeconfig, runMain } from "@kube-connector/core";
import { readConfig } from "./config.ts";
import { startDriver } from "./driver.ts";
import manifest from "../package.json" with { type: "json" };

await runMain(async (argv, env) => {
  const config = readConfig(argv, env);
  const log = createJsonLog(config.logLevel, { room: "csi-driver" });
  const access = config.kubeconfig === undefined ? await inClusterAccess(env) : await readKubeconfig(config.kubeconfig);
  const api = openApiServer(access);
  const driver = await startDriver({ config, api, log, version: manifest.version }).catch(async (error: unknown) => {
    await api.stop();
    throw error;
  });
  return {
    done: driver.done,
    async stop() {
      await driver.stop();
      await api.stop();
    },
  };
});
