import { randomBytes } from "node:crypto";
import {
  type ApiServer,
  type Clock,
  type Log,
  type Running,
  sleep,
  startPrivatePort,
  startQueue,
  stopAll,
} from "@kube-connector/core";
import type { Config } from "./config.ts";
import { probeTarget } from "./connector/probe.ts";
import { startProber } from "./connector/prober.ts";
import { createReconcile } from "./connector/reconcile.ts";
import { sweepAll } from "./connector/sweep.ts";
import { guardWrites, type Leadership, startLeadership } from "./kube/lease.ts";
import { createMetrics } from "./metrics.ts";
import { startWorld } from "./world.ts";

export interface ControllerOptions {
  config: Omit<Config, "kubeconfig" | "logLevel">;
  api: ApiServer;
  clock: Clock;
  log: Log;
  /** For tests: targets on loopback may be probed. */
  allowLoopback?: boolean;
  /** For tests: the Lease's times in milliseconds. */
  lease?: { duration: number; renewDeadline: number; retry: number };
}

export interface Controller extends Running {
  identity: string;
  /** Of /livez, /readyz and /metrics. */
  privatePort: number;
  /** Ends when this replica leads and has read everything once. */
  working: Promise<void>;
}

const sweepEvery = 600_000;
const leaseName = "kube-connector-controller";

/** Makes the cluster match its Connectors. `done` rejects when the leadership is lost: the process should then end. */
export async function startController(options: ControllerOptions): Promise<Controller> {
  const { config, clock } = options;
  const identity = config.identity ?? `controller-${randomBytes(6).toString("hex")}`;
  const log = options.log.with({ identity });
  const stopping = new AbortController();
  const leadership = config.leaderElect
    ? startLeadership({
        api: options.api,
        clock,
        log,
        namespace: config.namespace,
        name: leaseName,
        identity,
        ...options.lease,
      })
    : soleLeadership();
  const api = guardWrites(options.api, () => leadership.mayWrite());

  const queue = startQueue({
    clock,
    log,
    run: (key) => reconcile(key),
    onRun: (result, milliseconds) => metrics.reconciled(result, milliseconds),
  });
  const add = (key: string) => queue.add(key);
  const world = startWorld({ api, clock, log, config, onConnector: add, onClass: add });
  const prober = startProber({
    clock,
    log,
    probe: (input, signal) =>
      probeTarget(input, { allowLoopback: options.allowLoopback === true, now: () => clock.now(), signal }),
    onSettled: add,
    onRound: (result, milliseconds) => metrics.probed(result, milliseconds),
  });
  const reconcile = createReconcile({ api, world, prober, clock, log, places: config, identity });
  const metrics = createMetrics({
    depth: () => queue.depth(),
    leading: () => leadership.mayWrite(),
    connectors: () => world.connectors(),
    lastRound: (key) => prober.lastRound(key),
  });
  const privatePort = await startPrivatePort({
    listen: config.privateAddress,
    log,
    live: () => Promise.resolve(undefined),
    // A standby is ready: it has read everything and can take over.
    ready: () => Promise.resolve(world.isSynced() ? undefined : "not everything has been read yet"),
    metrics: () => metrics.text(),
    metricsContentType: metrics.contentType,
  }).catch(async (error: unknown) => {
    await stopAll([leadership, queue, world, prober]);
    throw error;
  });

  async function work(): Promise<void> {
    await Promise.all([leadership.elected, world.synced]);
    if (stopping.signal.aborted) return;
    log.info("Works", { count: [...world.connectors()].length });
    queue.begin();
  }
  async function sweepNowAndThen(): Promise<void> {
    await working;
    while (!stopping.signal.aborted) {
      await sweepAll({ api, world, log }).catch((error: unknown) =>
        log.warn("A sweep failed and is tried again", { error }),
      );
      await sleep(clock, sweepEvery, stopping.signal);
    }
  }
  const working = work();
  sweepNowAndThen().catch((error: unknown) => log.error("The sweep ended", { error }));

  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopping.abort();
    // Finish what is being written, and only then give the lease back.
    stopped ??= stopAll([world, privatePort, leadership, prober, queue]);
    return stopped;
  };
  const done = leadership.done.then(
    async () => await (stopped ?? Promise.resolve()),
    async (error: unknown) => {
      api.abandon();
      await stop();
      throw error;
    },
  );
  done.catch(() => undefined);
  return { identity, privatePort: privatePort.port, working, done, stop };
}

function soleLeadership(): Leadership {
  let end: () => void = () => undefined;
  let leading = true;
  return {
    elected: Promise.resolve(),
    mayWrite: () => leading,
    done: new Promise((resolve) => {
      end = resolve;
    }),
    stop() {
      leading = false;
      end();
      return Promise.resolve();
    },
  };
}
