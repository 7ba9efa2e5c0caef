import type { ContainerExit } from "../run.ts";
import type { ContainerState, ContainerStatus, Job, Pod } from "../kube.ts";
import { containerStatuses } from "./state.ts";

// How containers ended, restart by restart, and what they gave as outputs.

/** Every end that the pods still tell of: of each container the last one, and the one before when it was restarted. */
export function exitsOf(pods: readonly Pod[]): ContainerExit[] {
  return pods.flatMap((pod) =>
    containerStatuses(pod).flatMap((status) => {
      const common = {
        pod: pod.metadata.name,
        podUid: pod.metadata.uid ?? "",
        container: status.name,
        ...indexOf(pod),
        ...(status.image === undefined ? {} : { image: status.image }),
        ...(status.imageID === undefined || status.imageID === "" ? {} : { imageID: status.imageID }),
        ...(pod.spec?.nodeName === undefined ? {} : { node: pod.spec.nodeName }),
      };
      const end = (state: ContainerState | undefined, restart: number): ContainerExit[] =>
        state?.terminated === undefined || restart < 0 ? [] : [{ ...common, restart, ...wordsOf(state.terminated) }];
      return [...end(status.lastState, restartOfLast(status)), ...end(status.state, status.restartCount)];
    }),
  );
}

/**
 * Which restart `lastState` tells of. While a container waits for its next start the kubelet (1.35, kubelet_pods.go) has moved
 * the end of the latest one there and not raised the count yet; for one that it lost sight of it has.
 */
function restartOfLast({ state, lastState, restartCount }: ContainerStatus): number {
  const waits = state?.waiting !== undefined && lastState?.terminated?.reason !== "ContainerStatusUnknown";
  return waits ? restartCount : restartCount - 1;
}

/** What was known with what is seen now; an end that was seen stays when its pod is gone. */
export function mergeExits(known: readonly ContainerExit[], seen: readonly ContainerExit[]): ContainerExit[] {
  const keyOf = ({ podUid, container, restart }: ContainerExit) => `${podUid}/${container}/${restart}`;
  return [...new Map([...known, ...seen].map((exit) => [keyOf(exit), exit])).values()];
}

/** The pod's completion index, when its Job is Indexed. */
export function indexOf(pod: Pod): { index?: number } {
  const name = "batch.kubernetes.io/job-completion-index";
  const text = pod.metadata.annotations?.[name] ?? pod.metadata.labels?.[name];
  return text === undefined ? {} : { index: Number(text) };
}

export interface Outputs {
  outputs: Record<string, string>;
  /** Sentences about what looks like outputs and is none. */
  problems: string[];
}

/** Outputs in termination messages; of two with one name the container's that ended later. */
export function outputsOf(exits: readonly ContainerExit[]): Outputs {
  const inOrder = [...exits].sort((a, b) => (a.finishedAt ?? "").localeCompare(b.finishedAt ?? ""));
  const all: Outputs = { outputs: {}, problems: [] };
  for (const { pod, container, message } of inOrder) {
    const { outputs, problems } = parseOutputs(message ?? "");
    Object.assign(all.outputs, outputs);
    all.problems.push(...problems.map((problem) => `The termination message of ${pod}/${container} ${problem}`));
  }
  return all;
}

/**
 * A text that is a JSON object of texts → outputs; what is no JSON object is nothing. Also for the rest of a log's line
 * after `::output `.
 */
export function parseOutputs(text: string): Outputs {
  const none: Outputs = { outputs: {}, problems: [] };
  if (!text.trimStart().startsWith("{")) return none;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { ...none, problems: ["begins like a JSON object and is none; more than 4096 bytes are cut off"] };
  }
  const wrong = Object.entries(value as object).filter(([, output]) => typeof output !== "string");
  if (wrong.length > 0)
    return { ...none, problems: [`has outputs that are no text: ${wrong.map(([name]) => name).join(", ")}`] };
  return { outputs: value as Record<string, string>, problems: [] };
}

/** The outputs that the definition wants and the run did not give. */
export function missingOutputs(outputs: Readonly<Record<string, string>>, wanted: readonly string[] = []): string[] {
  return wanted.filter((name) => !Object.hasOwn(outputs, name));
}

/** `status.failedIndexes` of an Indexed Job, as `1,3-5`; "" when none failed, or when it has no limit of each index. */
export function failedIndexesOf(job: Job): string {
  return job.status?.failedIndexes ?? "";
}

function wordsOf(end: NonNullable<ContainerState["terminated"]>) {
  const { exitCode, signal, reason, message, startedAt, finishedAt } = end;
  return {
    exitCode,
    ...(signal === undefined || signal === 0 ? {} : { signal }),
    ...(reason === undefined ? {} : { reason }),
    ...(message === undefined ? {} : { message }),
    ...(startedAt === undefined || startedAt === null ? {} : { startedAt }),
    ...(finishedAt === undefined || finishedAt === null ? {} : { finishedAt }),
  };
}
