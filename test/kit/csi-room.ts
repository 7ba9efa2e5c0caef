import { createJsonLog, openApiServer } from "@kube-connector/core";
import { type DriverRunning, readConfig, startDriver } from "@kube-connector/csi-driver";
import { onTestFinished } from "vitest";
import { type StandInApi, startStandInApi } from "./csi-api.ts";
import { createStandInKubelet, type StandInKubelet } from "./csi-kubelet.ts";

/** The driver with a stand-in on each side, undone after the test. */
export interface TestDriver {
  kubelet: StandInKubelet;
  api: StandInApi;
  driver: DriverRunning;
  /** All log lines at debug level. */
  lines: string[];
  /** Stops the driver and starts another on the same node. */
  restart: () => Promise<void>;
  /** GET on the private port. */
  get: (path: string) => Promise<{ status: number; text: string }>;
}

export async function startTestDriver(options: { registered?: boolean; flags?: string[] } = {}): Promise<TestDriver> {
  const kubelet = await createStandInKubelet();
  onTestFinished(() => kubelet.cleanUp());
  const api = await startStandInApi();
  onTestFinished(() => api.stop());
  const lines: string[] = [];
  const start = async () => {
    const config = readConfig(
      [
        `--kubelet-root=${kubelet.root}`,
        "--private-address=127.0.0.1:0",
        "--log-level=debug",
        ...(options.flags ?? []),
      ],
      { NODE_NAME: "node-1" },
    );
    const server = openApiServer({ url: api.url });
    const log = createJsonLog("debug", { room: "csi-driver" }, { write: (line) => lines.push(line) });
    const driver = await startDriver({ config, api: server, log, version: "0.0.0-test" });
    driver.done.catch(() => undefined);
    if (options.registered !== false) await kubelet.register();
    return {
      driver,
      async stop() {
        await driver.stop();
        await server.stop();
      },
    };
  };
  let life = await start();
  onTestFinished(() => life.stop());
  const room: TestDriver = {
    kubelet,
    api,
    lines,
    driver: life.driver,
    async restart() {
      await life.stop();
      life = await start();
      room.driver = life.driver;
    },
    async get(path) {
      const answer = await fetch(`http://127.0.0.1:${life.driver.privatePort}${path}`);
      return { status: answer.status, text: await answer.text() };
    },
  };
  return room;
}
