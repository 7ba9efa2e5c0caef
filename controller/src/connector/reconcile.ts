import {
  apiVersion,
  type ApiServer,
  type Clock,
  type Connector,
  type ConnectorClass,
  Fault,
  type KubeObject,
  type Log,
  resolvedEntries,
  resolvedToEntries,
  Secret,
  value,
} from "@kube-connector/core";
import { type Applied, applyChild, type Child, childKey, deleteChild, digest, fieldManager } from "../kube/apply.ts";
import { type EventText, writeEvent } from "../kube/events.ts";
import type { World } from "../world.ts";
import { type Certified, certify } from "./certify.ts";
import { type Contest, contestPause, createContest } from "./contest.ts";
import { secretEntries } from "./authority.ts";
import { type Places, resolvedLabels, resolvedType, sharedProxy } from "./children.ts";
import { eventsOf, expiryWarning, nextExpiryWarning, sameStatus } from "./conditions.ts";
import { type ChildPlan, planChildren, planStatus, planVerdicts, type VerdictInput } from "./plan.ts";
import type { ProbeInput } from "./probe.ts";
import type { Prober } from "./prober.ts";
import { acceptedSecretTypes, type Resolution, resolveConnector, type StoredSecret } from "./resolve.ts";
import { sweepClass, sweepConnector } from "./sweep.ts";

export interface ReconcileOptions {
  /** Refuses to write when we may not lead. */
  api: ApiServer;
  world: World;
  prober: Prober;
  clock: Clock;
  log: Log;
  places: Places;
  identity: string;
}

/** What one process remembers between runs. Losing it does no harm. */
interface Memory {
  /** When each Connector was last looked at, milliseconds since 1970. */
  lastLooks: Map<string, number>;
  contest: Contest;
}

/** What is looked at again although nothing tells that it changed. Milliseconds. */
const blindLook = 30_000;

/**
 * A key → the world in order; the answer is when to look again, in milliseconds. `namespace/name` is a Connector, a bare
 * name is a class. The user's faults are conditions, the machine's are thrown.
 */
export function createReconcile(options: ReconcileOptions): (key: string) => Promise<number | undefined> {
  const memory: Memory = { lastLooks: new Map(), contest: createContest(options.clock) };
  return async (key) => {
    if (!key.includes("/")) return await reconcileClass(key, options);
    const connector = options.world.connector(key);
    if (connector === undefined) {
      options.prober.forget(key);
      memory.lastLooks.delete(key);
      await sweepConnector(key, options);
      return undefined;
    }
    if (connector.metadata.deletionTimestamp !== undefined) return undefined;
    try {
      return await reconcileConnector(key, connector, options, memory);
    } catch (error) {
      // Nothing can be made in a namespace that is ending; the sweep follows when the Connector is gone.
      if (error instanceof Fault && error.answer?.status === 403 && error.message.includes("being terminated")) {
        options.log.info("The namespace is ending, so nothing is made in it", { key });
        return undefined;
      }
      throw error;
    }
  };
}

async function reconcileConnector(
  key: string,
  connector: Connector,
  options: ReconcileOptions,
  memory: Memory,
): Promise<number | undefined> {
  const { world, places, prober, clock } = options;
  // Read.
  const connectorClass = world.connectorClass(connector.spec.connectorClassName);
  const stored = await readStored(options.api, connector);
  const resolution = resolveConnector({ connector, class: connectorClass, secret: stored?.secret }, places);
  const basis = watchTarget(key, connector, connectorClass, resolution, stored?.version, options);
  // Plan and apply.
  const children = world.childrenOf(key);
  const plan =
    resolution.target === undefined ? undefined : planChildren({ connector, class: connectorClass, places, children });
  const made =
    plan === undefined
      ? undefined
      : await applyPlan(connector, plan, resolution, { ...options, contest: memory.contest });
  const deployment = plan && world.child({ kind: "Deployment", ...plan.proxy })?.deployment;
  const probe = basis === undefined ? undefined : prober.settled(key, basis);
  const taken = made?.taken;
  const verdicts = planVerdicts({ connector, class: connectorClass, resolution, probe, plan, deployment, taken });
  // The old proxy serves until the new one does; but a token that is gone is gone everywhere.
  const moved = verdicts.ProxyServiceReady.status === "True" || resolution.token === undefined;
  if (plan !== undefined && moved) {
    for (const child of plan.unwanted) {
      await deleteChild(options.api, child);
      world.deleted(child);
    }
  }
  // Report.
  const now = clock.now();
  const caBundle = taken?.service === true ? undefined : made?.certified.bundle;
  const lastProbe = prober.lastRound(key);
  const status = planStatus({ connector, verdicts, resolution, probe, caBundle, places, now, lastProbe });
  const events = [...(made?.events ?? [])];
  const known = connector.status?.credential?.expiresAt === status.credential?.expiresAt;
  const expiring = expiryWarning(resolution.expiresAt, known ? (memory.lastLooks.get(key) ?? now) : 0, now);
  if (expiring !== undefined) events.push(expiring);
  memory.lastLooks.set(key, now);
  if (!sameStatus(connector.status, status)) {
    await writeStatus(options, connector, status);
    events.unshift(...eventsOf(connector.status, status.conditions ?? []));
  }
  for (const event of events) await writeEvent(options, connector, event);
  const blind =
    taken !== undefined ||
    verdicts.SecretReady.reason === "WrongSecretType" ||
    acceptedSecretTypes(connector, connectorClass).some((type) => !world.watches(type));
  const times = [
    made?.certified.lookAgainAt ?? Number.POSITIVE_INFINITY,
    nextExpiryWarning(resolution.expiresAt, now),
    made?.contested === true ? now + contestPause : Number.POSITIVE_INFINITY,
    blind ? now + blindLook : Number.POSITIVE_INFINITY,
  ];
  const next = Math.min(...times);
  return Number.isFinite(next) ? Math.max(1000, next - now) : undefined;
}

/** The Secret that a Connector names, read now; undefined when there is none. Nothing of it is kept. */
async function readStored(
  api: ApiServer,
  connector: Connector,
): Promise<{ secret: StoredSecret; version: string } | undefined> {
  const { namespace = "default" } = connector.metadata;
  const name = encodeURIComponent(connector.spec.auth.secretRef.name);
  try {
    const object = await api.request<KubeObject>("GET", `/api/v1/namespaces/${namespace}/secrets/${name}`);
    const { uid, resourceVersion } = object.metadata;
    return {
      secret: { type: typeof object.type === "string" ? object.type : "", data: secretEntries(object) },
      version: `${uid}/${resourceVersion}`,
    };
  } catch (error) {
    if (error instanceof Fault && error.answer?.status === 404) return undefined;
    throw error;
  }
}

/** Has the target asked as the class says; the answer names what is being asked, undefined when nothing can be. */
function watchTarget(
  key: string,
  connector: Connector,
  connectorClass: ConnectorClass | undefined,
  resolution: Resolution,
  version: string | undefined,
  options: ReconcileOptions,
): string | undefined {
  const input = probeInput(connectorClass, resolution);
  if (input === undefined) {
    options.prober.forget(key);
    return undefined;
  }
  const { token: _, ...facts } = input;
  const basis = digest([facts, connector.metadata.uid, connector.metadata.generation, version]);
  const interval = value.duration(connectorClass?.spec.probes?.interval ?? "60s");
  options.prober.want(key, basis, interval, async () => {
    const current = options.world.connector(key);
    if (current === undefined) return undefined;
    const currentClass = options.world.connectorClass(current.spec.connectorClassName);
    const stored = await readStored(options.api, current);
    const fresh = { connector: current, class: currentClass, secret: stored?.secret };
    return probeInput(currentClass, resolveConnector(fresh, options.places));
  });
  return basis;
}

function probeInput(connectorClass: ConnectorClass | undefined, resolution: Resolution): ProbeInput | undefined {
  const { target, token, described } = resolution;
  if (connectorClass === undefined || target === undefined || token === undefined || described === undefined) {
    return undefined;
  }
  const { probes } = connectorClass.spec;
  return {
    target,
    token,
    tls: described.tls,
    expiresAt: resolution.expiresAt,
    paths: { liveness: probes?.liveness?.path ?? "/livez", auth: probes?.auth?.path ?? "/api" },
    timeout: value.duration(probes?.timeout ?? "10s"),
    className: connectorClass.metadata.name,
  };
}

interface Made {
  certified: Certified;
  taken: VerdictInput["taken"];
  /** Whether a child was left alone because somebody else keeps writing it. */
  contested: boolean;
  events: EventText[];
}

type Hands = ReconcileOptions & { contest: Contest };

async function applyPlan(connector: Connector, plan: ChildPlan, resolution: Resolution, hands: Hands): Promise<Made> {
  const { api, world, clock, contest } = hands;
  for (const child of plan.stale) {
    await deleteChild(api, child);
    world.deleted(child);
  }
  if (plan.stale.length > 0)
    throw new Fault("conflict", "Children of a former Connector of this name are being removed");
  const { described, target } = resolution;
  if (described === undefined || target === undefined) throw new Fault("internal", "A plan without a target");
  const names = { uid: described.uid, host: target.host, serviceNames: described.serviceNames };
  const { authority, resolved } = plan;
  const certified = await certify({ connector, names, authority, resolved }, { api, world, now: () => clock.now() });
  const made: Made = { certified, taken: undefined, contested: false, events: [...certified.events] };
  const note = (applied: Applied, child: Pick<Child, "kind" | "namespace" | "name">) => {
    if (applied.result === "taken") made.taken ??= takenSentence(child);
    if (applied.result === "created" || applied.result === "changed") world.wrote(child.kind, applied.object);
    if (applied.result === "changed" && contest.note(childKey(child))) made.events.push(contestedEvent(child));
  };
  // The token and the certificate's key are never left in a stranger's hands, so there is no pause for this one.
  const secret = { kind: "Secret", ...plan.resolved } as const;
  note(await applyResolved(connector, plan, resolution, certified, hands), secret);
  for (const child of plan.children) {
    if (contest.blocked(childKey(child))) made.contested = true;
    else if (!waitsForProxy(child, plan, world)) note(await applyChild(api, child, world.child(child)), child);
  }
  return made;
}

/** The Service beside the Connector goes on leading to the former proxy until the new one serves. */
function waitsForProxy(child: Child, plan: ChildPlan, world: World): boolean {
  if (child.namespace === plan.proxy.namespace || world.child(child) === undefined) return false;
  return (world.child({ kind: "Deployment", ...plan.proxy })?.deployment?.available ?? 0) === 0;
}

function contestedEvent(child: Pick<Child, "kind" | "namespace" | "name">): EventText {
  return {
    type: "Warning",
    reason: "ChildContested",
    message: `Somebody else keeps changing the ${child.kind} ${child.namespace}/${child.name}, which the controller owns; it is left alone for a minute. See its managedFields for who it is.`,
  };
}

function takenSentence(child: Pick<Child, "kind" | "namespace" | "name">): VerdictInput["taken"] {
  const what = `The ${child.kind} ${child.namespace}/${child.name} is there already and was not made for this Connector`;
  return {
    service: child.kind === "Service",
    message: `${what}; delete it, or delete this Connector and create it under another name.`,
  };
}

/** The one Secret that the proxy reads. A leaf that can stay is not touched, so its key is not needed. */
async function applyResolved(
  connector: Connector,
  plan: ChildPlan,
  resolution: Resolution,
  certified: Certified,
  options: ReconcileOptions,
): Promise<Applied> {
  const { world, api } = options;
  if (resolution.described === undefined) throw new Fault("internal", "A plan without a target");
  const unchangedLeaf = { certificate: "", key: new Secret("") };
  const leaf = certified.leaf ?? unchangedLeaf;
  const entries = resolvedToEntries(resolution.described, { token: resolution.token, leaf });
  const seen = world.child({ kind: "Secret", ...plan.resolved });
  const text = entries[resolvedEntries.connector]?.reveal() ?? "";
  const token = resolution.token === undefined ? undefined : digest(resolution.token.reveal());
  const same =
    certified.leaf === undefined &&
    seen?.resolved?.described === digest(text) &&
    seen.resolved.token === token &&
    seen.resolved.proxy === plan.proxy.name;
  if (same) return { result: "unchanged" };
  const written = Object.entries(entries).filter(([name]) => certified.leaf !== undefined || !name.startsWith("tls."));
  const data = Object.fromEntries(
    written.map(([name, secret]) => [name, Buffer.from(secret.reveal(), "utf8").toString("base64")]),
  );
  const metadata = { labels: resolvedLabels(connector, plan.proxy.name) };
  const child: Child = {
    kind: "Secret",
    ...plan.resolved,
    object: { metadata, type: resolvedType, data },
    change: { data: { [resolvedEntries.token]: null, ...data } },
    digest: "changed",
  };
  return await applyChild(api, child, seen);
}

async function writeStatus(options: ReconcileOptions, connector: Connector, status: unknown): Promise<void> {
  const { name, namespace = "default", uid } = connector.metadata;
  const path = `/apis/${apiVersion}/namespaces/${namespace}/connectors/${name}/status`;
  try {
    const written = await options.api.request<KubeObject>("PATCH", path, {
      query: { fieldManager, force: true },
      contentType: "application/apply-patch+yaml",
      body: { apiVersion, kind: "Connector", metadata: { name, namespace, uid }, status },
    });
    options.world.wroteConnector(written);
  } catch (error) {
    // The Connector is gone; its watch event follows.
    if (!(error instanceof Fault && error.answer?.status === 404)) throw error;
  }
}

async function reconcileClass(name: string, options: ReconcileOptions): Promise<number | undefined> {
  const { world, api, places } = options;
  const connectorClass = world.connectorClass(name);
  const used = [...world.connectorsOfClass(name)].length > 0;
  if (connectorClass?.spec.proxy?.placement === "Shared" && used) {
    for (const child of sharedProxy(connectorClass, places)) {
      const applied = await applyChild(api, child, world.child(child));
      if (applied.result === "created" || applied.result === "changed") world.wrote(child.kind, applied.object);
      if (applied.result === "taken") {
        throw new Fault("conflict", `The ${child.kind} ${child.namespace}/${child.name} is not ours; delete it`);
      }
    }
    return undefined;
  }
  // A class that is gone leaves the proxies of its Connectors as they are.
  if (connectorClass !== undefined || !used) await sweepClass(name, options);
  return undefined;
}
