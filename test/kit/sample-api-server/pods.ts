import type { KubeObject } from "@kube-connector/core";
import { fieldsOf, type Kind, kindOf } from "./kinds.ts";
import { type Store, timestamp } from "./store.ts";

/** Stands in for scheduler and kubelet: pods start, write a log line now and then, and go when they are deleted. */
export interface Pods {
  /** A new pod becomes Running a moment later, with events about it; `already`: at once, for pods of old. */
  began(pod: KubeObject, already?: "already"): void;
  /** Marks a pod as terminating and removes it a moment later. */
  end(pod: KubeObject): KubeObject;
  log(pod: KubeObject): PodLog;
  stop(): void;
}

export interface PodLog {
  lines: string[];
  /** Called with each new line, and with undefined when the pod is gone. The answer ends the subscription. */
  follow(listener: (line: string | undefined) => void): () => void;
}

export interface PodsOptions {
  store: Store;
  /** Milliseconds between two log lines of a pod. */
  logInterval: number;
}

const known = (resource: string): Kind => {
  const kind = kindOf(resource);
  if (kind === undefined) throw new Error(`no kind ${resource}`);
  return kind;
};

const sentences = ["GET / 200", "GET /healthz 200", "POST /orders 201", "GET /orders/42 200"];

export function startPods({ store, logInterval }: PodsOptions): Pods {
  const podKind = known("pods");
  const eventKind = known("events");
  const timers = new Set<NodeJS.Timeout>();
  const logs = new Map<string, { lines: string[]; listeners: Set<(line: string | undefined) => void> }>();
  let lastAddress = 10;

  const later = (milliseconds: number, then: () => void) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      then();
    }, milliseconds);
    timers.add(timer);
  };
  const find = (pod: KubeObject) =>
    store.list(podKind, pod.metadata.namespace).find((one) => one.metadata.uid === pod.metadata.uid);
  const logOf = (pod: KubeObject) => {
    const uid = pod.metadata.uid ?? "";
    const log = logs.get(uid) ?? { lines: [], listeners: new Set() };
    logs.set(uid, log);
    return log;
  };
  const note = (pod: KubeObject, reason: string, message: string) => {
    const { name, namespace = "default", uid } = pod.metadata;
    const now = timestamp();
    store.create(eventKind, {
      metadata: { name: `${name}.${store.version().toString(16)}`, namespace },
      involvedObject: { apiVersion: "v1", kind: "Pod", name, namespace, uid },
      type: "Normal",
      reason,
      message,
      count: 1,
      firstTimestamp: now,
      lastTimestamp: now,
      source: { component: "sample-api-server" },
    });
  };
  const write = (pod: KubeObject) => {
    const log = logOf(pod);
    const line = `${timestamp()} ${sentences[log.lines.length % sentences.length]}`;
    log.lines.push(line);
    if (log.lines.length > 500) log.lines.shift();
    for (const listener of log.listeners) listener(line);
  };

  const ticker = setInterval(() => {
    for (const pod of store.list(podKind, undefined)) if (fieldsOf(pod.status).phase === "Running") write(pod);
  }, logInterval);
  ticker.unref();

  const run = (pod: KubeObject) => {
    const now = find(pod);
    if (now === undefined) return;
    lastAddress += 1;
    store.replace(podKind, runningPod(now, `10.1.0.${lastAddress % 250}`));
    note(pod, "Started", "Started its containers");
    write(pod);
  };
  const began: Pods["began"] = (pod, already) => {
    note(pod, "Scheduled", `Successfully assigned ${pod.metadata.namespace}/${pod.metadata.name} to sample-node`);
    if (already === undefined) later(300, () => run(pod));
    else run(pod);
  };

  return {
    began,
    end(pod) {
      if (pod.metadata.deletionTimestamp !== undefined) return pod;
      const ending = store.replace(podKind, {
        ...pod,
        metadata: { ...pod.metadata, deletionTimestamp: timestamp(), deletionGracePeriodSeconds: 1 },
      });
      later(300, () => {
        if (find(pod) === undefined) return;
        store.remove(podKind, pod.metadata.namespace, pod.metadata.name);
        for (const listener of logOf(pod).listeners) listener(undefined);
        logs.delete(pod.metadata.uid ?? "");
      });
      return ending;
    },
    log(pod) {
      const log = logOf(pod);
      return {
        lines: log.lines,
        follow(listener) {
          log.listeners.add(listener);
          return () => log.listeners.delete(listener);
        },
      };
    },
    stop() {
      clearInterval(ticker);
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

function runningPod(pod: KubeObject, podIP: string): KubeObject {
  const now = timestamp();
  const spec = fieldsOf(pod.spec);
  const containers = Array.isArray(spec.containers) ? (spec.containers as { name?: string; image?: string }[]) : [];
  return {
    ...pod,
    spec: { ...spec, nodeName: "sample-node" },
    status: {
      phase: "Running",
      podIP,
      podIPs: [{ ip: podIP }],
      hostIP: "10.0.0.1",
      startTime: now,
      conditions: ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map((type) => ({
        type,
        status: "True",
        lastTransitionTime: now,
      })),
      containerStatuses: containers.map(({ name = "", image = "" }) => ({
        name,
        image,
        imageID: "",
        ready: true,
        started: true,
        restartCount: 0,
        state: { running: { startedAt: now } },
      })),
    },
  };
}
