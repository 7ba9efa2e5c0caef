import { access, mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  type ApiServer,
  type Clock,
  Fault,
  type Log,
  type Running,
  startPrivatePort,
  stopAll,
  systemClock,
} from "@kube-connector/core";
import { createAuthorize } from "./authorize.ts";
import type { Config } from "./config.ts";
import { startConnectors } from "./connectors.ts";
import { dumpMessage } from "./dump.ts";
import { Identity } from "./gen/csi_pb.ts";
import { createIdentity } from "./identity.ts";
import { codeOf, createMetrics, type Metrics } from "./metrics.ts";
import { createMounts } from "./mount.ts";
import { createNode } from "./node.ts";
import { startRegistration } from "./register.ts";
import { startRepair } from "./repair.ts";
import { createRpcClient, type Observer, startRpcServer } from "./rpc.ts";
import { createVolumes } from "./volumes.ts";

export interface DriverOptions {
  config: Config;
  api: ApiServer;
  log: Log;
  /** The product's version. */
  version: string;
  clock?: Clock;
}

export interface DriverRunning extends Running {
  /** The unix socket of Identity and Node. */
  socket: string;
  /** The port of /livez, /readyz and /metrics. */
  privatePort: number;
}

/** Starts the driver; its `done` rejects when the kubelet refuses it. */
export async function startDriver(options: DriverOptions): Promise<DriverRunning> {
  const { config, api, log, clock = systemClock } = options;
  const { kubeletRoot, driverName, nodeId } = config;
  if (nodeId === undefined) {
    throw new Fault("invalid_argument", "The settings cannot be used: give --node-id or NODE_NAME, the node's name");
  }
  const folder = join(kubeletRoot, "plugins", driverName);
  const socket = join(folder, "csi.sock");
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw Fault.from(error, `Cannot make ${folder}`);
  });
  const mounts = await createMounts({ folder, log });
  const volumes = createVolumes();
  const running: Running[] = [];
  try {
    const connectors = startConnectors({ api, clock, log });
    running.push(connectors);
    const metrics = createMetrics({ driverName, volumes, connectors, mounts, clock });
    const authorize = createAuthorize(api);
    const node = createNode({ kubeletRoot, nodeId, driverName, mounts, connectors, authorize, volumes, log });
    const identity = createIdentity({ name: driverName, version: options.version });
    const server = await startRpcServer({
      socket,
      services: [identity, node],
      observer: createObserver(log, metrics, config.logLevel === "debug"),
    });
    running.push(server, startRepair({ driverName, mounts, volumes, clock, log }));
    const registry = join(kubeletRoot, "plugins_registry", `${driverName}-reg.sock`);
    const registration =
      config.registration === "sidecar"
        ? undefined
        : await startRegistration({ socket: registry, driverName, endpoint: socket, log });
    const privatePort = await startPrivatePort({
      listen: config.privateAddress,
      log,
      live: async () => {
        const lost = registration === undefined ? undefined : await access(registry).catch(() => `${registry} is gone`);
        return lost ?? (await probe(socket));
      },
      ready: async () => {
        if (!connectors.isSynced()) return "the Connectors have not been read from the API server yet";
        return registration?.isRegistered() === false ? "the kubelet has not registered the driver yet" : undefined;
      },
      metrics: () => metrics.text(),
      metricsContentType: metrics.contentType,
    });
    running.push(privatePort);
    if (registration !== undefined) running.push(registration);
    log.info("The driver serves", { path: socket, node: nodeId, version: options.version });
    return {
      socket,
      privatePort: privatePort.port,
      done: Promise.race(running.map((one) => one.done)),
      stop: () => stopAll(running),
    };
  } catch (error) {
    await stopAll(running).catch(() => undefined);
    throw error;
  }
}

/** Alive means that the socket answers, so that a driver that lost it is restarted. */
async function probe(socket: string): Promise<string | undefined> {
  const client = createRpcClient(Identity, socket);
  try {
    return (await client.probe({}, { timeout: 3000 })).ready === false ? "Probe says not ready" : undefined;
  } catch {
    return `nobody answers Probe at ${socket}`;
  } finally {
    client.close();
  }
}

/** One line for each call that failed or changed something; with debug, each request too. */
function createObserver(log: Log, metrics: Metrics, debug: boolean): Observer {
  return {
    onRequest(method, request) {
      if (debug) log.debug("A call came", { method: method.name, request: dumpMessage(method.input, request) });
    },
    onEnd(report) {
      metrics.observe(report);
      const { method, call, fault, milliseconds } = report;
      const fields = { ...call.fields, method, code: codeOf(report), milliseconds: Math.round(milliseconds * 10) / 10 };
      if (fault !== undefined) log.warn("A call failed", { ...fields, error: fault });
      else if (call.did) log.info("A call is done", fields);
      else log.debug("A call changed nothing", fields);
    },
  };
}
