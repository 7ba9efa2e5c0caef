import type { Job, KubeEvent, Pod, Workload } from "../kube.ts";
import type { Diagnosis } from "../run.ts";
import { failureOf, type PodCause, waitingCause } from "./containers.ts";
import { refusalOf } from "./refusal.ts";
import { placementCause } from "./placement.ts";
import { isActive, isTrue, isWaiting } from "./state.ts";

// Why a run waits or failed. What a pod says of itself comes first, as it is nearest to the cause; then what its Job
// says, then events. Of several looks at a run the first cause is the one to keep.

export interface Trouble {
  job: Job;
  pods: readonly Pod[];
  /** Of the object that `eventsOf` named. */
  events?: readonly KubeEvent[];
  workload?: Workload;
  /** Milliseconds since 1970. */
  now: number;
}

/** The cause that is seen; undefined when nothing is wrong, or not known yet. */
export function diagnose(trouble: Trouble): Diagnosis | undefined {
  const conditions = trouble.job.status?.conditions;
  const stuck = stuckTerminating(trouble);
  if (stuck !== undefined || isTrue(conditions, "Complete") || isTrue(conditions, "SuccessCriteriaMet")) return stuck;
  for (const find of finders) {
    const found = find(trouble);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * The uid of the object whose events may tell what status does not: why a pod is not started on its node, or not created. So
 * it is for a moment with every Job, and worth a list when it stays so for some seconds.
 */
export function eventsOf(job: Job, pods: readonly Pod[]): string | undefined {
  return pods.find(isStarting)?.metadata.uid ?? (isShortOfPods(job) ? job.metadata.uid : undefined);
}

const finders: readonly ((trouble: Trouble) => Diagnosis | undefined)[] = [
  ({ pods }) => firstOf(pods, waitingCause),
  ({ pods, workload }) => (isWaiting(workload) ? undefined : firstOf(pods, placementCause)),
  decidedByJob,
  disrupted,
  ({ pods }) => failureOf(pods),
  deletedByOthers,
  ({ pods, events = [] }) => firstOf(pods.filter(isStarting), (pod) => notStarted(pod, events)),
  notCreated,
  awaitingAdmission,
  ({ job }) => {
    const failed = failedBy(job, "BackoffLimitExceeded");
    if (failed === undefined) return undefined;
    return cause(
      "BackoffLimit",
      `${job.status?.failed ?? 0} pods failed, and none of them is left: ${failed}`,
      "Read the log of the run for what they said; raise backoffLimit only if another try may succeed.",
    );
  },
];

function cause(category: Diagnosis["category"], message: string, hint: string): Diagnosis {
  return { category, message, hint };
}

function firstOf(pods: readonly Pod[], find: (pod: Pod) => PodCause | undefined): Diagnosis | undefined {
  for (const pod of pods) {
    const found = find(pod);
    if (found !== undefined) return { ...found, pod: pod.metadata.name };
  }
  return undefined;
}

/** The message of the condition by which the Job failed, or is failing, for that reason. */
function failedBy({ status }: Job, ...reasons: string[]): string | undefined {
  const condition = isTrue(status?.conditions, "Failed") ?? isTrue(status?.conditions, "FailureTarget");
  return condition !== undefined && reasons.includes(condition.reason ?? "") ? (condition.message ?? "") : undefined;
}

function decidedByJob({ job, pods }: Trouble): Diagnosis | undefined {
  const policy = failedBy(job, "PodFailurePolicy");
  if (policy !== undefined)
    return cause(
      "PodFailurePolicy",
      `The podFailurePolicy ended the run: ${policy}`,
      "Mend what made the pod fail, or change the rule that it matched.",
    );
  const indexes = failedBy(job, "FailedIndexes", "MaxFailedIndexesExceeded");
  if (indexes !== undefined) {
    const first = failureOf(pods);
    return cause(
      "FailedIndexes",
      `Of ${job.spec?.completions ?? 0} indexes these failed: ${job.status?.failedIndexes ?? ""}. ${first?.message ?? indexes}`,
      "Mend the cause, then run these indexes alone: retry with --failed-indexes.",
    );
  }
  const deadline = failedBy(job, "DeadlineExceeded");
  if (deadline === undefined) return undefined;
  const limit = job.spec?.activeDeadlineSeconds;
  return cause(
    "Deadline",
    `The Job did not end within its timeout${typeof limit === "number" ? ` of ${limit} s` : ""}: ${deadline}`,
    "Raise timeout, or let the work end sooner: more parallelism, more resources, less work.",
  );
}

function disrupted({ pods }: Trouble): Diagnosis | undefined {
  return firstOf(pods, disruption);
}

/** The Job controller deletes pods before it says why, so what would make it do so is looked for first. */
function deletedByOthers({ job: { metadata, spec, status }, pods, now }: Trouble): Diagnosis | undefined {
  const deadline = Date.parse(status?.startTime ?? "") + Number(spec?.activeDeadlineSeconds ?? Number.NaN) * 1000;
  const byController =
    metadata.deletionTimestamp !== undefined ||
    spec?.suspend === true ||
    now + clockSkew >= deadline ||
    (spec?.successPolicy !== undefined && pods.some((pod) => pod.status?.phase === "Succeeded")) ||
    isTrue(status?.conditions, "Failed") !== undefined ||
    isTrue(status?.conditions, "FailureTarget") !== undefined;
  return byController ? undefined : firstOf(pods, deletedPod);
}

/** Milliseconds by which the controller's clock may be ahead of ours. */
const clockSkew = 2000;

function disruption(pod: Pod): PodCause | undefined {
  const condition = isTrue(pod.status?.conditions, "DisruptionTarget");
  const reason = pod.status?.reason ?? "";
  const words = [pod.status?.message, condition?.message].find((text) => text !== undefined && text !== "") ?? reason;
  const node = pod.spec?.nodeName === undefined ? "its node" : `node ${pod.spec.nodeName}`;
  const name = pod.metadata.name;
  if (condition?.reason === "PreemptionByScheduler" || reason === "Preempting")
    return cause(
      "Infra.Preempted",
      `Pod ${name} had to leave ${node} for a pod of higher priority: ${words}`,
      "Let the run be retried, or give its pods a PriorityClass that is not below the others'.",
    );
  if (
    condition?.reason === "DeletionByTaintManager" ||
    condition?.reason === "DeletionByPodGC" ||
    reason === "NodeLost"
  )
    return cause(
      "Infra.NodeLost",
      `Pod ${name} was lost with ${node}: ${words}`,
      "Let the run be retried on another node; an admin should look at the node.",
    );
  // Reasons of the kubelet: eviction, shutdown of the node, and pods that it turned away at its door.
  const turnedAway = /^(Evicted|Terminated|NodeShutdown|OutOf\w+|UnexpectedAdmissionError|NodeAffinity)$/.test(reason);
  if (condition === undefined && !turnedAway) return undefined;
  return cause("Infra.Evicted", `Pod ${name} was evicted from ${node}: ${words.trim()}`, evictionHint(words));
}

function evictionHint(words: string): string {
  if (/EmptyDir volume .* exceeds the limit/i.test(words))
    return "Raise the sizeLimit of that emptyDir volume, or let the program write less into it.";
  if (/low on resource: memory|MemoryPressure/.test(words))
    return "Give the container a memory request of what it needs, so that it is put on a node that has it.";
  if (/ephemeral|DiskPressure|emptyDir/i.test(words))
    return "Let it write less to its own file system, or give it a volume, or an ephemeral-storage request.";
  return "Let the run be retried; retry.on Infra does so.";
}

function deletedPod(pod: Pod): PodCause | undefined {
  if (pod.metadata.deletionTimestamp === undefined) return undefined;
  return cause(
    "Infra.Evicted",
    `Pod ${pod.metadata.name} was deleted by somebody else while its Job was at work`,
    "Let the run be retried; look in the cluster's audit log for who deletes pods.",
  );
}

/** Placed on a node, where no container of it has begun yet. */
function isStarting(pod: Pod): boolean {
  const statuses = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
  return (
    isActive(pod) &&
    pod.spec?.nodeName !== undefined &&
    statuses.every(({ state, lastState }) => !state?.running && !state?.terminated && !lastState?.terminated)
  );
}

function notStarted(pod: Pod, events: readonly KubeEvent[]): PodCause | undefined {
  const own = events.filter(({ involvedObject }) => involvedObject?.uid === pod.metadata.uid);
  const mount = latest(own, ["FailedMount", "FailedAttachVolume", "FailedMapVolume"]);
  if (mount !== undefined)
    return cause(
      "VolumeMount",
      `A volume of pod ${pod.metadata.name} cannot be mounted on node ${pod.spec?.nodeName}: ${mount}`,
      mountHint(mount),
    );
  const sandbox = latest(own, ["FailedCreatePodSandBox"]);
  if (sandbox === undefined) return undefined;
  return cause(
    "StartError",
    `Pod ${pod.metadata.name} cannot be set up on node ${pod.spec?.nodeName}: ${sandbox}`,
    "An admin should look at the node's network and container runtime.",
  );
}

function mountHint(message: string): string {
  if (/(secret|configmap) "[^"]+" not found/.test(message))
    return "Create that Secret or ConfigMap in the run's namespace, or correct its name in the volume.";
  if (/Multi-Attach|already (attached|used)/.test(message))
    return "The volume is in use on another node: wait for that pod, or use a claim with access mode ReadWriteMany.";
  return "Check the claim, its volume and the storage driver on that node.";
}

/** Fewer pods than the Job wants now, and nothing that keeps its controller from making them. */
function isShortOfPods({ spec, status, metadata }: Job): boolean {
  const { active = 0, succeeded = 0, conditions = [] } = status ?? {};
  const ended = ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"];
  if (metadata.deletionTimestamp !== undefined || spec?.suspend === true) return false;
  if (status?.startTime === undefined || ended.some((type) => isTrue(conditions, type) !== undefined)) return false;
  // Pods of a Job that another controller manages are in another cluster.
  if (spec?.managedBy !== undefined && spec.managedBy !== "kubernetes.io/job-controller") return false;
  const left = spec?.completions === undefined ? Number.POSITIVE_INFINITY : spec.completions - succeeded;
  return active < Math.min(spec?.parallelism ?? 1, left);
}

function notCreated({ job, events = [] }: Trouble): Diagnosis | undefined {
  if (!isShortOfPods(job)) return undefined;
  const own = events.filter(({ involvedObject }) => involvedObject?.uid === job.metadata.uid);
  const message = latest(own, ["FailedCreate"]);
  return message === undefined ? undefined : refusalOf(message.replace(/^Error creating: /, ""));
}

function awaitingAdmission({ workload }: Trouble): Diagnosis | undefined {
  if (workload === undefined || !isWaiting(workload)) return undefined;
  const conditions = workload.status?.conditions ?? [];
  const words = [...conditions]
    .filter(({ type, message }) => ["QuotaReserved", "Admitted", "Evicted"].includes(type) && message !== "")
    .sort((a, b) => (b.lastTransitionTime ?? "").localeCompare(a.lastTransitionTime ?? ""))[0]?.message;
  return cause(
    "AwaitingAdmission",
    `Kueue has not admitted the Job yet, in queue ${workload.spec?.queueName ?? "(none)"}: ${words ?? "it has not been judged yet"}`,
    "It starts by itself when the queue has room; ask less, or ask the admin of the queue.",
  );
}

/** After grace and 30 s more something holds the object: a node that is gone, or a finalizer. */
function stuckTerminating({ job, pods, now }: Trouble): Diagnosis | undefined {
  const isStuck = ({ metadata }: Job | Pod) =>
    metadata.deletionTimestamp !== undefined && now > Date.parse(metadata.deletionTimestamp) + 30_000;
  const pod = pods.find(isStuck);
  if (pod !== undefined)
    return {
      ...cause(
        "StuckTerminating",
        `Pod ${pod.metadata.name} should be gone since ${pod.metadata.deletionTimestamp}, and is still on node ${pod.spec?.nodeName ?? "(none)"}${held(pod)}`,
        "Look whether that node is alive; cancel with --force deletes the pod without waiting for it.",
      ),
      pod: pod.metadata.name,
    };
  if (pods.length > 0 || !isStuck(job)) return undefined;
  return cause(
    "StuckTerminating",
    `The Job should be gone since ${job.metadata.deletionTimestamp}, and has no pods left${held(job)}`,
    "What set the finalizer has to take it off; ask whoever runs that controller.",
  );
}

function held({ metadata }: Job | Pod): string {
  const { finalizers = [] } = metadata;
  return finalizers.length === 0 ? "" : `; finalizers: ${finalizers.join(", ")}`;
}

function latest(events: readonly KubeEvent[], reasons: readonly string[]): string | undefined {
  const timeOf = ({ lastTimestamp, eventTime }: KubeEvent) => lastTimestamp ?? eventTime ?? "";
  return events
    .filter(({ reason }) => reasons.includes(reason ?? ""))
    .sort((a, b) => timeOf(b).localeCompare(timeOf(a)))[0]?.message;
}
