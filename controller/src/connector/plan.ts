import type { Connector, ConnectorClass, ConnectorStatus } from "@kube-connector/core";
import { type Child, childKey } from "../kube/apply.ts";
import type { KnownChild } from "../world.ts";
import {
  childNames,
  connectorService,
  dedicatedProxy,
  type Placement,
  type Places,
  proxyNamespace,
  sharedProxyName,
} from "./children.ts";
import { carriedOver, nextConditions, type Verdicts } from "./conditions.ts";
import type { ProbeSettled } from "./prober.ts";
import { notChecked, type Resolution, type Verdict } from "./resolve.ts";

// What should be, from what is. Pure: no clock, no network.

export interface ChildPlan {
  placement: Placement;
  /** The Deployment and its Service. */
  proxy: { namespace: string; name: string };
  /** Where the resolved Secret is. */
  resolved: { namespace: string; name: string };
  authority: { namespace: string; name: string };
  /** To be applied in this order, after the CA and the resolved Secret. */
  children: Child[];
  /** Of a former Connector of the same name: to be deleted first. */
  stale: KnownChild[];
  /** Of a former placement: to be deleted when the new proxy serves. */
  unwanted: KnownChild[];
}

export interface ChildPlanInput {
  connector: Connector;
  class: ConnectorClass | undefined;
  places: Places;
  /** All children with the Connector's namespace and name in their labels. */
  children: readonly KnownChild[];
}

/** undefined: without a class nothing says where a proxy should run, and none is there yet. */
export function planChildren(input: ChildPlanInput): ChildPlan | undefined {
  const { connector, places, children } = input;
  const uid = connector.metadata.uid ?? "";
  const stale = children.filter((child) => child.connectorUid !== uid);
  const own = children.filter((child) => child.connectorUid === uid);
  const names = childNames(connector);
  const found = own.find((child) => child.kind === "Secret" && child.name === names.resolved);
  const placement =
    input.class === undefined ? formerPlacement(found, places) : (input.class.spec.proxy?.placement ?? "Dedicated");
  if (placement === undefined) return undefined;
  const namespace = proxyNamespace(placement, places);
  // A class that is gone leaves its proxies as they are.
  const name =
    placement === "Dedicated"
      ? names.proxy
      : input.class === undefined
        ? (found?.resolved?.proxy ?? names.proxy)
        : sharedProxyName(input.class);
  const proxy = { namespace, name };
  const resolved = { namespace, name: names.resolved };
  const authority = { namespace: places.namespace, name: names.authority };
  const wanted = [
    ...(placement === "Dedicated" && input.class !== undefined ? dedicatedProxy(connector, input.class, places) : []),
    connectorService(connector, proxy, places),
  ];
  const kept = new Set([
    ...wanted.map(childKey),
    childKey({ kind: "Secret", ...resolved }),
    childKey({ kind: "Secret", ...authority }),
  ]);
  const unwanted = input.class === undefined ? [] : own.filter((child) => !kept.has(childKey(child)));
  return { placement, proxy, resolved, authority, children: wanted, stale, unwanted };
}

function formerPlacement(found: KnownChild | undefined, places: Places): Placement | undefined {
  if (found === undefined) return undefined;
  return found.namespace === places.sharedNamespace ? "Shared" : "Dedicated";
}

export interface VerdictInput {
  connector: Connector;
  class: ConnectorClass | undefined;
  resolution: Resolution;
  probe: ProbeSettled | undefined;
  plan: ChildPlan | undefined;
  deployment: KnownChild["deployment"];
  /** A child whose name somebody else's object has, as a sentence. */
  taken: { service: boolean; message: string } | undefined;
}

export function planVerdicts(input: VerdictInput): Verdicts {
  const { resolution } = input;
  return {
    ConnectorClassReady: resolution.classReady,
    SecretReady: resolution.secretReady,
    ...probeVerdicts(input),
    ProxyServiceReady: proxyVerdict(input),
  };
}

function probeVerdicts(input: VerdictInput): Pick<Verdicts, "LivenessReady" | "AuthReady"> {
  const { connector, resolution, probe } = input;
  const before = [resolution.classReady, resolution.secretReady].find(({ status }) => status !== "True");
  if (before !== undefined) {
    const first = `Not asked before ${before === resolution.classReady ? "ConnectorClassReady" : "SecretReady"} is True.`;
    return { LivenessReady: notChecked(first), AuthReady: notChecked(first) };
  }
  const waiting = notChecked("Not asked before LivenessReady is True.");
  if (resolution.addressProblem !== undefined) {
    const wrong: Verdict = { status: "False", reason: "ConnectionFailed", message: `${resolution.addressProblem}.` };
    return { LivenessReady: wrong, AuthReady: waiting };
  }
  if (probe === undefined) {
    const asking = "The target is being asked.";
    return {
      LivenessReady: carriedOver(connector, "LivenessReady", asking),
      AuthReady: carriedOver(connector, "AuthReady", asking),
    };
  }
  return { LivenessReady: probe.liveness, AuthReady: probe.auth ?? waiting };
}

function proxyVerdict(input: VerdictInput): Verdict {
  const { plan, deployment, connector } = input;
  if (plan === undefined) return notChecked("No proxy is made before class and address can be used.");
  if (input.taken !== undefined) {
    return {
      status: "False",
      reason: input.taken.service ? "ServiceNameTaken" : "ProxyUnavailable",
      message: input.taken.message,
    };
  }
  if (deployment !== undefined && deployment.available > 0) {
    return { status: "True", reason: "Ready", message: "The proxy serves." };
  }
  const look = `kubectl -n ${plan.proxy.namespace} describe deployment ${plan.proxy.name}`;
  const before = connector.status?.conditions?.find(({ type }) => type === "ProxyServiceReady");
  if (deployment?.problem !== undefined) {
    return {
      status: "False",
      reason: "ProxyUnavailable",
      message: `No pod of the proxy is available: ${deployment.problem.replace(/\.$/, "")}. See ${look}.`,
    };
  }
  if (before?.status === "True" || before?.reason === "ProxyUnavailable") {
    return {
      status: "False",
      reason: "ProxyUnavailable",
      message: `No pod of the proxy is available any more. See ${look}.`,
    };
  }
  return { status: "False", reason: "Deploying", message: `The proxy is being started. If that lasts, see ${look}.` };
}

export interface StatusInput {
  connector: Connector;
  verdicts: Verdicts;
  resolution: Resolution;
  probe: ProbeSettled | undefined;
  /** PEM; undefined when there is no CA or no Service yet. */
  caBundle: string | undefined;
  places: Places;
  /** Milliseconds since 1970. */
  now: number;
  lastProbe: number | undefined;
}

export function planStatus(input: StatusInput): ConnectorStatus {
  const { connector, probe, resolution } = input;
  const { namespace = "default", name, generation } = connector.metadata;
  const host = `c-${name}.${namespace}.svc.${input.places.clusterDomain}`;
  const before = connector.status;
  const version = probe?.version ?? before?.target?.version;
  const probed = input.lastProbe === undefined ? before?.target?.lastProbeTime : second(input.lastProbe);
  const proxy =
    input.caBundle === undefined
      ? before?.proxy
      : {
          httpAddress: { url: `http://${host}` },
          httpsAddress: { url: `https://${host}` },
          caBundle: Buffer.from(input.caBundle).toString("base64"),
        };
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    conditions: nextConditions(connector, input.verdicts, input.now),
    ...(proxy === undefined ? {} : { proxy }),
    ...(version === undefined && probed === undefined
      ? {}
      : {
          target: {
            ...(version === undefined ? {} : { version }),
            ...(probed === undefined ? {} : { lastProbeTime: probed }),
          },
        }),
    ...(resolution.expiresAt === undefined ? {} : { credential: { expiresAt: second(resolution.expiresAt) } }),
  };
}

const second = (milliseconds: number) => `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
