import {
  type ApiServer,
  type Clock,
  type KubeObject,
  type Log,
  type Reflector,
  startReflector,
} from "@kube-connector/core";
import type { JobsCounts } from "../counts.ts";
import type { Job, KubeCondition, Pod, PodContainer } from "../kube.ts";
import { runAnnotations, runLabels } from "../labels.ts";
import { Packed } from "../packed.ts";
import { paths } from "../paths.ts";

// One shared watch for each cluster, namespace and kind, however many runs there are. It begins before the first POST, so
// that nothing of a run is missed, and ends a minute after the last run.

/** Milliseconds for which a view without runs is kept. */
const idleTime = 60_000;
const pollWhenForbidden = 5000;

/** What is seen of one namespace: our engine's Jobs and their pods. */
export interface NamespaceView {
  /** Ends when both kinds were listed once. */
  synced: Promise<void>;
  isSynced(): boolean;
  job(name: string): Job | undefined;
  /** The run's, by their label; of all its attempts. */
  pods(): Pod[];
  /** Pods of the run that have gone since the last call, as they were last seen. */
  takeGone(): Pod[];
  /** The cluster cannot be followed at the moment, and why. */
  trouble(): unknown;
  /** Nothing is asked for for a while: until then that Job and the run's pods take little memory. */
  rest(job: string | undefined): void;
  release(): void;
}

export interface ClusterViewOptions {
  api: ApiServer;
  engine: string;
  clock: Clock;
  log: Log;
  /** Something of that run has changed. */
  onChange: (run: string) => void;
  counts: Pick<JobsCounts, "saw" | "relisted">;
}

/** An object as the watch has it. Of a run that nobody looks at it is packed at once. */
class Kept<T extends Job | Pod> extends Packed<T> {
  readonly run: string | undefined;

  constructor(value: T, runs: ReadonlySet<string>) {
    super(value);
    this.run = value.metadata.labels?.[runLabels.run];
    if (this.run === undefined || !runs.has(this.run)) this.pack();
  }
}

interface Watched {
  namespace: string;
  jobs: Reflector<Kept<Job>>;
  pods: Reflector<Kept<Pod>>;
  byRun: Map<string, Kept<Pod>[]>;
  gone: Map<string, Pod[]>;
  troubles: Map<"jobs" | "pods", unknown>;
  /** Who looks. */
  runs: Set<string>;
  cancelEnd: (() => void) | undefined;
}

export interface ClusterView {
  /** The namespace as that run sees it; released by who took it. */
  view(namespace: string, run: string): NamespaceView;
  /** Kinds that are followed, one for each namespace: by a watch, or by lists where watching is forbidden. */
  watches(): { watch: number; poll: number };
  stop(): Promise<void>;
}

export function createClusterView(options: ClusterViewOptions): ClusterView {
  const { api, clock, log, engine, counts } = options;
  const namespaces = new Map<string, Watched>();
  const ending = new Set<Promise<unknown>>();
  const query = { labelSelector: `${runLabels.engine}=${engine}` };

  function watch(namespace: string): Watched {
    const byRun: Watched["byRun"] = new Map();
    const gone = new Map<string, Pod[]>();
    const troubles: Watched["troubles"] = new Map();
    const runs = new Set<string>();
    const onTrouble = (kind: "jobs" | "pods") => (fault: unknown) => {
      if (fault === undefined) troubles.delete(kind);
      else troubles.set(kind, fault);
      for (const run of runs) options.onChange(run);
    };
    const tell = (one: Kept<Job | Pod> | undefined) => {
      if (one?.run !== undefined) options.onChange(one.run);
    };
    /** How long ago the Job controller wrote what is new. */
    const measure = (before: Job, after: Job) => {
      const known = before.status?.conditions ?? [];
      for (const { type, status, lastTransitionTime } of after.status?.conditions ?? []) {
        if (known.some((one) => one.type === type && one.status === status)) continue;
        const written = Date.parse(lastTransitionTime ?? "");
        if (!Number.isNaN(written)) counts.saw(Math.max(0, clock.now() - written) / 1000);
      }
    };
    const onList = (isFirst: boolean) => {
      if (!isFirst) counts.relisted();
    };
    const shared = { api, clock, log, query, pollWhenForbidden, onList };
    /** Their order is that of their coming. */
    const replace = (run: string, before: Kept<Pod> | undefined, after: Kept<Pod> | undefined) => {
      const pods = byRun.get(run) ?? [];
      const at = before === undefined ? -1 : pods.indexOf(before);
      pods.splice(at < 0 ? pods.length : at, at < 0 ? 0 : 1, ...(after === undefined ? [] : [after]));
      if (pods.length === 0) byRun.delete(run);
      else byRun.set(run, pods);
    };
    return {
      namespace,
      byRun,
      gone,
      troubles,
      runs,
      cancelEnd: undefined,
      jobs: startReflector<Kept<Job>>({
        ...shared,
        path: paths.jobs(namespace),
        keep: (object) => new Kept(keepJob(object), runs),
        onTrouble: onTrouble("jobs"),
        onChange: (_key, { before, after }) => {
          if (before !== undefined && after !== undefined) measure(before.value, after.value);
          tell(after ?? before);
        },
      }),
      pods: startReflector<Kept<Pod>>({
        ...shared,
        path: paths.pods(namespace),
        keep: (object) => new Kept(keepPod(object), runs),
        onTrouble: onTrouble("pods"),
        onChange: (_key, { before, after }) => {
          const pod = after ?? before;
          if (pod?.run === undefined) return;
          const { run } = pod;
          if (before !== undefined && runs.has(run) && before.value.metadata.uid !== after?.value.metadata.uid)
            gone.set(run, [...(gone.get(run) ?? []), before.value]);
          replace(run, before, after);
          tell(pod);
        },
      }),
    };
  }

  const end = (namespace: string, one: Watched) => {
    namespaces.delete(namespace);
    const ended = Promise.all([one.jobs.stop(), one.pods.stop()]).finally(() => ending.delete(ended));
    ending.add(ended);
  };

  return {
    view(namespace, run) {
      const one = namespaces.get(namespace) ?? watch(namespace);
      namespaces.set(namespace, one);
      one.runs.add(run);
      one.cancelEnd?.();
      one.cancelEnd = undefined;
      return new RunView(one, run, () => {
        one.cancelEnd = clock.after(idleTime, () => end(namespace, one));
      });
    },
    watches() {
      const kinds = [...namespaces.values()].flatMap(({ jobs, pods }) => [jobs, pods]);
      const poll = kinds.filter((kind) => kind.isPolling()).length;
      return { watch: kinds.length - poll, poll };
    },
    async stop() {
      for (const [namespace, one] of namespaces) {
        one.cancelEnd?.();
        end(namespace, one);
      }
      await Promise.all(ending);
    },
  };
}

/** A class, as there are as many as live runs. */
class RunView implements NamespaceView {
  readonly #one: Watched;
  readonly #run: string;
  readonly #onIdle: () => void;

  constructor(one: Watched, run: string, onIdle: () => void) {
    this.#one = one;
    this.#run = run;
    this.#onIdle = onIdle;
  }

  get synced(): Promise<void> {
    return Promise.all([this.#one.jobs.synced, this.#one.pods.synced]).then(() => undefined);
  }

  isSynced(): boolean {
    return this.#one.jobs.isSynced() && this.#one.pods.isSynced();
  }

  job(name: string): Job | undefined {
    return this.#one.jobs.get(`${this.#one.namespace}/${name}`)?.value;
  }

  pods(): Pod[] {
    return (this.#one.byRun.get(this.#run) ?? []).map(({ value }) => value);
  }

  takeGone(): Pod[] {
    const pods = this.#one.gone.get(this.#run) ?? [];
    this.#one.gone.delete(this.#run);
    return pods;
  }

  trouble(): unknown {
    return this.#one.troubles.values().next().value;
  }

  rest(job: string | undefined): void {
    if (job !== undefined) this.#one.jobs.get(`${this.#one.namespace}/${job}`)?.pack();
    for (const pod of this.#one.byRun.get(this.#run) ?? []) pod.pack();
  }

  release(): void {
    const { runs, gone } = this.#one;
    gone.delete(this.#run);
    if (runs.delete(this.#run) && runs.size === 0) this.#onIdle();
  }
}

const completionIndex = "batch.kubernetes.io/job-completion-index";

const keptLabels = [runLabels.run, runLabels.attempt, completionIndex];
const keptAnnotations = [runAnnotations.fingerprint, completionIndex];

function only(all: Readonly<Record<string, string>>, names: readonly string[]): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const name of names) if (all[name] !== undefined) kept[name] = all[name];
  return kept;
}

/** Of metadata what the room looks at. */
function keepMetadata(metadata: Job["metadata"]): Job["metadata"] {
  const {
    name,
    namespace,
    uid,
    resourceVersion,
    labels,
    annotations,
    creationTimestamp,
    deletionTimestamp,
    finalizers,
  } = metadata;
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
    ...(labels === undefined ? {} : { labels: only(labels, keptLabels) }),
    ...(annotations === undefined ? {} : { annotations: only(annotations, keptAnnotations) }),
    ...(creationTimestamp === undefined ? {} : { creationTimestamp }),
    ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
    ...(finalizers === undefined ? {} : { finalizers }),
  };
}

function keepJob(object: KubeObject): Job {
  const { metadata, spec, status } = object as Job;
  const fields = keptOfSpec.map((name) => [name, spec?.[name]]);
  return {
    metadata: keepMetadata(metadata),
    spec: defined(Object.fromEntries(fields) as Pick<NonNullable<Job["spec"]>, (typeof keptOfSpec)[number]>),
    ...(status === undefined ? {} : { status }),
  };
}

const keptOfSpec = [
  "parallelism",
  "completions",
  "completionMode",
  "suspend",
  "backoffLimit",
  "backoffLimitPerIndex",
  "successPolicy",
  "managedBy",
  "activeDeadlineSeconds",
] as const;

function keepPod(object: KubeObject): Pod {
  const { metadata, spec, status } = object as Pod;
  const { phase, reason, message, startTime, conditions, containerStatuses, initContainerStatuses } = status ?? {};
  const { deletionGracePeriodSeconds } = metadata;
  return {
    metadata: { ...keepMetadata(metadata), ...defined({ deletionGracePeriodSeconds }) },
    spec: {
      ...defined({ nodeName: spec?.nodeName, restartPolicy: spec?.["restartPolicy"] }),
      ...defined({ schedulingGates: spec?.schedulingGates }),
      containers: (spec?.containers ?? []).map(keepContainer),
      initContainers: (spec?.initContainers ?? []).map(keepContainer),
    },
    status: defined({
      phase,
      reason,
      message,
      startTime,
      conditions: conditions?.map(keepCondition),
      containerStatuses,
      initContainerStatuses,
    }),
  };
}

function keepContainer({ name, image, restartPolicy, resources }: PodContainer): PodContainer {
  return { name, ...defined({ image, restartPolicy, resources }) };
}

function keepCondition({ type, status, reason, message, lastTransitionTime }: KubeCondition): KubeCondition {
  return { type, status, ...defined({ reason, message, lastTransitionTime }) };
}

/** Without the keys that have no value. */
function defined<T extends object>(object: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
