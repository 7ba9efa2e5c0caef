import { type Clock, errnoOf, Fault, type Log } from "@kube-connector/core";
import { type Audit, type LocalAccess, noMetrics, type RunningProxy, startProxy } from "@kube-connector/proxy";
import type { GivenSource } from "./source.ts";

export type Doors = RunningProxy;

export interface DoorsOptions {
  source: GivenSource;
  access: LocalAccess;
  audit: Audit;
  /** 0: a free one. */
  forwardPort: number;
  reversePort: number;
  clock: Clock;
  log: Log;
}

/** The proxy on loopback, with local tokens. It ends streams at once when it is stopped: a person is waiting. */
export async function startDoors(options: DoorsOptions): Promise<Doors> {
  const { source, access, audit, forwardPort, reversePort, clock, log } = options;
  try {
    return await startProxy({
      forward: { host: "127.0.0.1", port: forwardPort },
      reverse: { host: "127.0.0.1", port: reversePort },
      connectors: source,
      authenticator: access.authenticator,
      authorizer: access.authorizer,
      metrics: noMetrics,
      audit,
      clock,
      log,
      timeouts: { drainWait: 0, drainGrace: 0, linger: 200 },
      allowLoopbackTargets: true,
    });
  } catch (error) {
    if (errnoOf(error) !== "EADDRINUSE" && errnoOf(error) !== "EACCES") throw error;
    const fault = Fault.from(error);
    const hint = "give --forward-port or --reverse-port another port, or none for a free one";
    throw new Fault(fault.code, `${fault.message}; ${hint}`, error);
  }
}
