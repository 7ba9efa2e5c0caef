import {
  createJsonLog,
  inClusterAccess,
  openApiServer,
  readKubeconfig,
  runMain,
  systemClock,
} from "@kube-connector/core";
import { readConfig } from "./config.ts";
import { startController } from "./controller.ts";

await runMain(async (argv, env) => {
  const config = readConfig(argv, env);
  const log = createJsonLog(config.logLevel, { room: "controller" });
  const access = config.kubeconfig === undefined ? await inClusterAccess(env) : await readKubeconfig(config.kubeconfig);
  const api = openApiServer(access);
  const controller = await startController({ config, api, clock: systemClock, log });
  return {
    done: controller.done,
    async stop() {
      await controller.stop();
      await api.stop();
    },
  };
});
