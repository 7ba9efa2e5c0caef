import type { ContainerStatus, Job, KubeCondition, Pod } from "../../packages/jobs/src/kube.ts";

// Jobs, CronJobs and pods as a real API server of 1.35 gives them: with the fields that it, the Job controller, the scheduler
// and the kubelet fill in.

const uid = "6c5c6a0e-2f7f-4b6e-9a62-0e5a6d5a4a11";

/** A Job of a CronJob, deployed by several tools, as it is read from a cluster. */
export const exportedJob = {
  apiVersion: "batch/v1",
  kind: "Job",
  metadata: {
    name: "nightly-29391840",
    namespace: "batch",
    uid,
    resourceVersion: "918273",
    generation: 1,
    creationTimestamp: "2026-03-01T02:00:00Z",
    finalizers: ["foregroundDeletion"],
    labels: {
      app: "nightly",
      "app.kubernetes.io/instance": "etl",
      "app.kubernetes.io/managed-by": "Helm",
      "helm.sh/chart": "etl-1.2.3",
      "kustomize.toolkit.fluxcd.io/name": "etl",
      "applyset.kubernetes.io/part-of": "applyset-x",
      "kueue.x-k8s.io/queue-name": "small",
      "kueue.x-k8s.io/prebuilt-workload-name": "job-nightly",
      "batch.kubernetes.io/controller-uid": uid,
      "batch.kubernetes.io/job-name": "nightly-29391840",
      "controller-uid": uid,
      "job-name": "nightly-29391840",
    },
    annotations: {
      "team/owner": "etl",
      "kubectl.kubernetes.io/last-applied-configuration": "{}",
      "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-03-01T02:00:00Z",
      "meta.helm.sh/release-name": "etl",
      "argocd.argoproj.io/tracking-id": "etl:batch/Job:batch/nightly",
      "connectors.cpaas.io/fingerprint": "sha256:00",
    },
    ownerReferences: [
      {
        apiVersion: "batch/v1",
        kind: "CronJob",
        name: "nightly",
        uid: "1",
        controller: true,
        blockOwnerDeletion: true,
      },
    ],
    managedFields: [{ manager: "kube-controller-manager", operation: "Update" }],
  },
  spec: {
    parallelism: 2,
    completions: 3,
    completionMode: "NonIndexed",
    backoffLimit: 4,
    activeDeadlineSeconds: 1200,
    ttlSecondsAfterFinished: 100,
    podReplacementPolicy: "TerminatingOrFailed",
    suspend: false,
    manualSelector: false,
    selector: { matchLabels: { "batch.kubernetes.io/controller-uid": uid } },
    template: {
      metadata: {
        creationTimestamp: null,
        finalizers: ["batch.kubernetes.io/job-tracking"],
        labels: {
          app: "nightly",
          "app.kubernetes.io/instance": "etl",
          "batch.kubernetes.io/controller-uid": uid,
          "batch.kubernetes.io/job-name": "nightly-29391840",
          "controller-uid": uid,
          "job-name": "nightly-29391840",
        },
        annotations: { "sidecar.istio.io/inject": "false", "kueue.x-k8s.io/workload": "job-nightly" },
      },
      spec: {
        restartPolicy: "OnFailure",
        serviceAccount: "etl",
        serviceAccountName: "etl",
        nodeName: "node-7",
        terminationGracePeriodSeconds: 30,
        dnsPolicy: "ClusterFirst",
        schedulerName: "default-scheduler",
        securityContext: {},
        initContainers: [{ name: "prepare", image: "images.example/tools:3", command: ["true"], resources: {} }],
        containers: [
          {
            name: "extract",
            image: "images.example/etl:7",
            command: ["etl", "extract"],
            imagePullPolicy: "IfNotPresent",
            terminationMessagePath: "/dev/termination-log",
            terminationMessagePolicy: "File",
            env: [
              { name: "HOST", value: "db.$(REGION).example" },
              { name: "REGION", value: "eu" },
              { name: "PASSWORD", valueFrom: { secretKeyRef: { name: "db", key: "password" } } },
              { name: "NODE", valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "spec.nodeName" } } },
            ],
            envFrom: [{ configMapRef: { name: "settings" } }, { prefix: "DB_", secretRef: { name: "db" } }],
            resources: { requests: { cpu: "100m", memory: "512Mi" }, limits: { memory: "1Gi" } },
            volumeMounts: [{ name: "tmp", mountPath: "/tmp" }],
          },
          {
            name: "load",
            image: "images.example/etl:7",
            args: ["load"],
            env: [
              { name: "DEPTH", value: "1" },
              { name: "DEPTH", value: "2" },
              { name: "LIMIT", valueFrom: { resourceFieldRef: { resource: "limits.memory", divisor: "0" } } },
              { name: "MODE", valueFrom: { configMapKeyRef: { name: "settings", key: "mode" } } },
            ],
            resources: {},
          },
        ],
        volumes: [{ name: "tmp", emptyDir: {} }],
      },
    },
  },
  status: { startTime: "2026-03-01T02:00:00Z", active: 2, ready: 2, uncountedTerminatedPods: {}, terminating: 0 },
};

/** The CronJob that it comes from. */
export const exportedCronJob = {
  apiVersion: "batch/v1",
  kind: "CronJob",
  metadata: { name: "nightly", namespace: "batch", uid: "c2", labels: { onlyOn: "the-cronjob" }, annotations: {} },
  spec: {
    schedule: "0 2 * * *",
    timeZone: "Europe/Berlin",
    suspend: true,
    concurrencyPolicy: "Forbid",
    successfulJobsHistoryLimit: 3,
    failedJobsHistoryLimit: 1,
    jobTemplate: {
      metadata: { creationTimestamp: null, labels: { app: "nightly" }, annotations: { "team/owner": "etl" } },
      spec: {
        backoffLimit: 4,
        template: {
          metadata: { creationTimestamp: null },
          spec: {
            restartPolicy: "Never",
            containers: [
              {
                name: "main",
                image: "images.example/etl:7",
                args: ["--day", "$(DAY)"],
                env: [{ name: "DAY", value: "1" }],
              },
            ],
          },
        },
      },
    },
  },
};

/** A pod's container as the kubelet reports it. */
export function containerStatus(state: object, more: object = {}): ContainerStatus {
  return {
    name: "main",
    image: "images.example/report:1.4",
    imageID: "images.example/report@sha256:4d2e",
    restartCount: 0,
    ready: "running" in state,
    started: "running" in state,
    state,
    lastState: {},
    ...more,
  };
}

export const running = { running: { startedAt: "2026-03-01T10:00:02Z" } };
export const creating = { waiting: { reason: "ContainerCreating" } };

/** A container that ended; `at` seconds after 10:00. */
export function terminated(exitCode: number, more: object = {}, at = 30) {
  return {
    terminated: {
      exitCode,
      reason: exitCode === 0 ? "Completed" : "Error",
      startedAt: "2026-03-01T10:00:02Z",
      finishedAt: `2026-03-01T10:${String(Math.floor(at / 60)).padStart(2, "0")}:${String(at % 60).padStart(2, "0")}Z`,
      containerID: "containerd://81c9",
      ...more,
    },
  };
}

const scheduled = { type: "PodScheduled", status: "True", lastTransitionTime: "2026-03-01T10:00:00Z" };

/** A pod of a Job, on its node, with these container statuses. */
export function pod(
  phase: string,
  containerStatuses: ContainerStatus[],
  more: { name?: string; metadata?: object; spec?: object; status?: object } = {},
): Pod {
  const name = more.name ?? "report-mz4k7q2xpa-x7f2p";
  const resources = { requests: { cpu: "64", memory: "1Gi" }, limits: { memory: "1Gi" } };
  return {
    metadata: {
      name,
      namespace: "batch",
      uid: `uid-${name}`,
      creationTimestamp: "2026-03-01T10:00:00Z",
      finalizers: ["batch.kubernetes.io/job-tracking"],
      labels: { "batch.kubernetes.io/job-name": "report-mz4k7q2xpa" },
      ...more.metadata,
    },
    spec: {
      nodeName: "node-1",
      restartPolicy: "Never",
      containers: [{ name: "main", image: "images.example/report:1.4", resources }],
      ...more.spec,
    },
    status: { phase, conditions: [scheduled], containerStatuses, ...more.status },
  };
}

/** A pod that has no node. */
export function unplacedPod(reason: string, message: string, spec: object = {}): Pod {
  const conditions = [
    { type: "PodScheduled", status: "False", reason, message, lastTransitionTime: "2026-03-01T10:00:00Z" },
  ];
  return pod("Pending", [], {
    spec: { nodeName: undefined, ...spec },
    status: { conditions, containerStatuses: undefined },
  });
}

/** A pod that a controller or node took away: the condition that it then carries. */
export function disrupted(reason: string, message: string) {
  return { conditions: [scheduled, { type: "DisruptionTarget", status: "True", reason, message }] };
}

/** A Job of ours as the API server and its controller have it. */
export function job(status: object = {}, more: { metadata?: object; spec?: object } = {}): Job {
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      name: "report-mz4k7q2xpa",
      namespace: "batch",
      uid: "u1",
      creationTimestamp: "2026-03-01T10:00:00Z",
      ...more.metadata,
    },
    spec: {
      parallelism: 1,
      completions: 1,
      completionMode: "NonIndexed",
      backoffLimit: 0,
      activeDeadlineSeconds: 600,
      suspend: false,
      podReplacementPolicy: "TerminatingOrFailed",
      ...more.spec,
    },
    status: { startTime: "2026-03-01T10:00:00Z", terminating: 0, uncountedTerminatedPods: {}, ...status },
  };
}

export function condition(type: string, reason = "", message = "", status = "True"): KubeCondition {
  const at = "2026-03-01T10:00:40Z";
  return { type, status, reason, message, lastTransitionTime: at };
}
