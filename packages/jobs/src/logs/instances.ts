import type { ContainerStatus, Pod } from "../kube.ts";
import type { ContainerExit } from "../run.ts";

// Which runs of containers a pod's status tells of.

/** What is known of a container from its pod's last status. */
export interface ContainerNews {
  pod: string;
  podUid: string;
  container: string;
  /** The latest run of it. */
  restart: number;
  /** Whether that run has begun, so that there can be a log. */
  started: boolean;
  /** When it ended (RFC 3339, whole seconds), "" when that is not said; absent while it has not. */
  ended?: string;
  /** When the run before it ended. */
  previousEnded?: string;
  /** It is started again when it ends, perhaps. */
  restarts: boolean;
  /** It has ended and may be started again at any moment, which is seen a little later. */
  unsettled: boolean;
  /** The pod was put out by its node. */
  evicted: boolean;
}

/** All containers that had a status: init containers, sidecars, the others. */
export function containersOf(pod: Pod): ContainerNews[] {
  const { initContainerStatuses = [], containerStatuses = [], reason, conditions = [], phase } = pod.status ?? {};
  const { name, uid = "" } = pod.metadata;
  const evicted =
    reason === "Evicted" ||
    conditions.some(
      (one) => one.type === "DisruptionTarget" && one.status === "True" && /Evict/.test(one.reason ?? ""),
    );
  const hasEnded = phase === "Succeeded" || phase === "Failed";
  const allRestart = pod.spec?.["restartPolicy"] !== "Never";
  const sidecars = new Set(
    pod.spec?.initContainers?.filter((one) => one.restartPolicy === "Always").map((one) => one.name),
  );
  return [...initContainerStatuses, ...containerStatuses].map((status) => {
    const restarts = !hasEnded && (allRestart || sidecars.has(status.name));
    return {
      pod: name,
      podUid: uid,
      container: status.name,
      restart: status.restartCount,
      evicted,
      restarts,
      unsettled: restarts && status.state?.terminated !== undefined,
      ...lifeOf(status),
    };
  });
}

function lifeOf({
  state = {},
  lastState = {},
}: ContainerStatus): Pick<ContainerNews, "started" | "ended" | "previousEnded"> {
  const before = lastState.terminated;
  const previous = before === undefined ? {} : { previousEnded: before.finishedAt ?? "" };
  if (state.running !== undefined) return { started: true, ...previous };
  if (state.terminated !== undefined) {
    // Without a start it never ran: there is no log.
    const ran = state.terminated.startedAt !== undefined && state.terminated.startedAt !== null;
    return { started: ran, ended: state.terminated.finishedAt ?? "", ...previous };
  }
  // Waiting to be started again, the last state is still that of the latest run: its count grows with the new container.
  return before === undefined ? { started: false } : { started: true, ended: before.finishedAt ?? "" };
}

/** The same of a container that has ended, as the history has it. */
export function newsOfExit({ pod, podUid, container, restart, finishedAt = "" }: ContainerExit): ContainerNews {
  const ended = { ended: finishedAt, restarts: false, unsettled: false, evicted: false };
  return { pod, podUid, container, restart, started: true, ...ended };
}

/** What to do about one run of a container. */
export interface Wanted {
  restart: number;
  /** RestartMissed: two or more runs began since, its log cannot be had. */
  how: "read" | "missed";
}

/** The runs to read of a container whose runs up to `known` (-1: none) are read already. */
export function wantedRuns(news: ContainerNews, known: number): Wanted[] {
  const wanted: Wanted[] = [];
  const latest = news.started ? news.restart : news.restart - 1;
  const oldest = Math.max(known + 1, news.restart - 1, 0);
  // One mark for all that were missed.
  if (oldest > known + 1) wanted.push({ restart: oldest - 1, how: "missed" });
  for (let restart = oldest; restart <= latest; restart += 1) wanted.push({ restart, how: "read" });
  return wanted;
}
