import type { Readable } from "node:stream";
import type { KubeObject } from "@kube-connector/core";

// What this room reads of Kubernetes objects, and the port by which it reaches a cluster. Field names and meanings:
// https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/. Times are RFC 3339 text, as the API has them.

export interface KubeCondition {
  type: string;
  /** "True", "False" or "Unknown". */
  status: string;
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
}

/** batch/v1 Job. */
export interface Job extends KubeObject {
  metadata: KubeObject["metadata"] & {
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    creationTimestamp?: string;
    deletionTimestamp?: string;
    finalizers?: string[];
  };
  spec?: {
    parallelism?: number;
    completions?: number;
    completionMode?: string;
    suspend?: boolean;
    backoffLimit?: number;
    managedBy?: string;
    [field: string]: unknown;
  };
  status?: {
    conditions?: KubeCondition[];
    active?: number;
    ready?: number;
    terminating?: number;
    succeeded?: number;
    failed?: number;
    startTime?: string;
    completionTime?: string;
    completedIndexes?: string;
    failedIndexes?: string;
    uncountedTerminatedPods?: { succeeded?: string[]; failed?: string[] };
  };
}

export interface ContainerState {
  waiting?: { reason?: string; message?: string };
  running?: { startedAt?: string };
  terminated?: {
    exitCode: number;
    signal?: number;
    reason?: string;
    message?: string;
    startedAt?: string;
    finishedAt?: string;
    containerID?: string;
  };
}

export interface ContainerStatus {
  name: string;
  restartCount: number;
  ready?: boolean;
  started?: boolean;
  image?: string;
  /** With the digest that was pulled. */
  imageID?: string;
  state?: ContainerState;
  lastState?: ContainerState;
}

/** What a diagnosis names of a container. */
export interface PodContainer {
  name: string;
  image?: string;
  /** Always: a sidecar, when it is an init container. */
  restartPolicy?: string;
  resources?: { requests?: Record<string, string>; limits?: Record<string, string> };
}

/** v1 Pod. */
export interface Pod extends KubeObject {
  metadata: Job["metadata"] & { deletionGracePeriodSeconds?: number };
  spec?: {
    nodeName?: string;
    schedulingGates?: { name: string }[];
    containers?: PodContainer[];
    initContainers?: PodContainer[];
    [field: string]: unknown;
  };
  status?: {
    phase?: string;
    reason?: string;
    message?: string;
    startTime?: string;
    conditions?: KubeCondition[];
    containerStatuses?: ContainerStatus[];
    initContainerStatuses?: ContainerStatus[];
  };
}

/** kueue.x-k8s.io Workload, the request for admission that Kueue makes for a Job. */
export interface Workload extends KubeObject {
  spec?: { queueName?: string; [field: string]: unknown };
  status?: { conditions?: KubeCondition[]; admission?: { clusterQueue?: string } };
}

/** v1 Event; `eventTime` where the newer form was written. */
export interface KubeEvent {
  type?: string;
  reason?: string;
  message?: string;
  count?: number;
  lastTimestamp?: string;
  eventTime?: string;
  involvedObject?: { kind?: string; name?: string; uid?: string };
}

/** How a container's log is asked for. https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ */
export interface LogQuery {
  container: string;
  follow?: boolean;
  previous?: boolean;
  /** RFC 3339 with whole seconds. */
  sinceTime?: string;
}

export interface ListQuery {
  labelSelector?: string;
  fieldSelector?: string;
  limit?: number;
  continue?: string;
}

/** `next` is the continue token, absent on the last page. */
export interface Page<T> {
  items: T[];
  next?: string;
  resourceVersion: string;
}

/**
 * A cluster as this room uses it, one per connector. Every call rejects with a Fault; where the API server answered, it has
 * `answer`.
 */
export interface Kube {
  get<T extends KubeObject>(path: string): Promise<T>;
  list<T extends KubeObject>(path: string, query: ListQuery): Promise<Page<T>>;
  /** POST with `fieldValidation=Strict`; warnings of the API server are dropped. */
  create<T extends KubeObject>(path: string, object: unknown, options?: { dryRun?: boolean }): Promise<T>;
  /** A merge patch. */
  patch<T extends KubeObject>(path: string, change: unknown): Promise<T>;
  /** With `uid` as precondition; `grace` in seconds. A propagation policy is always sent. */
  remove(
    path: string,
    options: { propagation: "Background" | "Foreground" | "Orphan"; uid?: string; grace?: number },
  ): Promise<void>;
  /** `timestamps=true` always. The caller destroys the stream. */
  log(namespace: string, pod: string, query: LogQuery, signal: AbortSignal): Promise<Readable>;
}
