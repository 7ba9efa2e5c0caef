import { image } from "./jobs-cluster.ts";

// What the tests of the jobs module put into the target cluster.

interface Named {
  kind: string;
  metadata: { name: string; [field: string]: unknown };
  [field: string]: unknown;
}

/** Kueue's kind of object, without Kueue: admission is what the test says. */
export const kueue: Named = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "workloads.kueue.x-k8s.io" },
  spec: {
    group: "kueue.x-k8s.io",
    scope: "Namespaced",
    names: { kind: "Workload", plural: "workloads", singular: "workload" },
    versions: [
      {
        name: "v1beta1",
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      },
    ],
  },
};

/** What keeps Jobs from being taken, started or finished, each in a namespace or on a node of its own. */
export function obstacles(namespace: string): Named[] {
  return [
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "settings", namespace },
      data: { mode: "full" },
    },
    {
      apiVersion: "v1",
      kind: "ResourceQuota",
      metadata: { name: "few", namespace: "jobs-quota" },
      spec: { hard: { pods: "0" } },
    },
    {
      apiVersion: "v1",
      kind: "ResourceQuota",
      metadata: { name: "full", namespace: "jobs-full" },
      spec: { hard: { "count/jobs.batch": "0" } },
    },
    {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: "jobs-strict", labels: { "pod-security.kubernetes.io/enforce": "restricted" } },
    },
    {
      apiVersion: "scheduling.k8s.io/v1",
      kind: "PriorityClass",
      metadata: { name: "jobs-low" },
      value: -10,
    },
    {
      apiVersion: "scheduling.k8s.io/v1",
      kind: "PriorityClass",
      metadata: { name: "jobs-high" },
      value: 1000,
    },
    { apiVersion: "v1", kind: "Node", metadata: { name: "jobs-lost" } },
    { apiVersion: "v1", kind: "Node", metadata: { name: "jobs-dead" } },
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingWebhookConfiguration",
      metadata: { name: "jobs-dead" },
      webhooks: [
        {
          name: "dead.example.com",
          clientConfig: { url: "https://127.0.0.1:1/" },
          rules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
          namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "jobs-webhook" } },
          sideEffects: "None",
          admissionReviewVersions: ["v1"],
          failurePolicy: "Fail",
        },
      ],
    },
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingAdmissionPolicy",
      metadata: { name: "jobs-team" },
      spec: {
        matchConstraints: {
          resourceRules: [{ apiGroups: ["batch"], apiVersions: ["v1"], operations: ["CREATE"], resources: ["jobs"] }],
        },
        validations: [{ expression: "has(object.metadata.labels.team)", message: "every Job names its team" }],
      },
    },
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingAdmissionPolicyBinding",
      metadata: { name: "jobs-team" },
      spec: {
        policyName: "jobs-team",
        validationActions: ["Deny"],
        matchResources: { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "jobs-policy" } } },
      },
    },
    kueue,
  ];
}

/** Kueue's request for admission of that Job. */
export function workload(namespace: string, job: string, uid: string, isAdmitted = false): object {
  const lastTransitionTime = new Date().toISOString();
  return {
    apiVersion: "kueue.x-k8s.io/v1beta1",
    kind: "Workload",
    metadata: {
      name: `job-${job}`,
      namespace,
      ownerReferences: [{ apiVersion: "batch/v1", kind: "Job", name: job, uid, controller: true }],
    },
    spec: { queueName: "nightly" },
    status: {
      conditions: isAdmitted
        ? [{ type: "Admitted", status: "True", reason: "Admitted", message: "admitted", lastTransitionTime }]
        : [
            {
              type: "QuotaReserved",
              status: "False",
              reason: "Pending",
              message: "couldn't assign flavors to pod set main: insufficient unused quota for cpu",
              lastTransitionTime,
            },
          ],
    },
  };
}

const worker = {
  name: "worker",
  image,
  command: ["sh", "-c", 'echo "REGION=$REGION KEY=$KEY KEPT=$KEPT $0"'],
  args: ["shallow"],
  env: [
    { name: "REGION", value: "us" },
    { name: "KEY", valueFrom: { secretKeyRef: { name: "db", key: "url" } } },
    { name: "KEPT", value: "yes" },
  ],
};

/**
 * An API server that takes no more than one request to create a Job of that ServiceAccount at a time, and a webhook for those in the
 * last namespace.
 */
export function fullFor(user: string, namespaces: string[], webhook: string): Named[] {
  const [, , namespace, name] = user.split(":");
  const level = { name: "jobs-full" };
  return [
    {
      apiVersion: "flowcontrol.apiserver.k8s.io/v1",
      kind: "FlowSchema",
      metadata: level,
      spec: {
        priorityLevelConfiguration: level,
        matchingPrecedence: 10,
        rules: [
          {
            subjects: [{ kind: "ServiceAccount", serviceAccount: { name, namespace } }],
            resourceRules: [{ apiGroups: ["batch"], resources: ["jobs"], verbs: ["create"], namespaces }],
          },
        ],
      },
    },
    {
      apiVersion: "flowcontrol.apiserver.k8s.io/v1",
      kind: "PriorityLevelConfiguration",
      metadata: level,
      // A request that is alone is always taken.
      spec: {
        type: "Limited",
        limited: { nominalConcurrencyShares: 0, borrowingLimitPercent: 0, limitResponse: { type: "Reject" } },
      },
    },
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingWebhookConfiguration",
      metadata: level,
      webhooks: [
        {
          name: "full.example.com",
          clientConfig: { url: webhook },
          rules: [{ apiGroups: ["batch"], apiVersions: ["v1"], operations: ["CREATE"], resources: ["jobs"] }],
          namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespaces.at(-1) } },
          sideEffects: "None",
          admissionReviewVersions: ["v1"],
          timeoutSeconds: 30,
          failurePolicy: "Ignore",
        },
      ],
    },
  ];
}

/** A Job to clone; it does not run itself. */
export const sourceJob = (namespace: string, name: string): object => ({
  apiVersion: "batch/v1",
  kind: "Job",
  metadata: { name, namespace },
  spec: { suspend: true, template: { spec: { restartPolicy: "Never", containers: [worker] } } },
});

/** A Secret, a ConfigMap, a ServiceAccount, a claim whose volume is that folder, a CronJob, and a Job elsewhere. */
export function givenObjects(namespace: string, data: string): object[] {
  const claim = { name: "data", namespace };
  return [
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "db", namespace },
      stringData: { url: "db.example:5432" },
    },
    { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "settings", namespace }, data: { mode: "full" } },
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "runner", namespace: "jobs-other" } },
    {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name: "jobs-data" },
      spec: {
        capacity: { storage: "1Gi" },
        accessModes: ["ReadWriteMany"],
        hostPath: { path: data },
        claimRef: claim,
        storageClassName: "",
      },
    },
    {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: claim,
      spec: {
        accessModes: ["ReadWriteMany"],
        storageClassName: "",
        volumeName: "jobs-data",
        resources: { requests: { storage: "1Gi" } },
      },
    },
    sourceJob("jobs-other", "plain"),
    {
      apiVersion: "batch/v1",
      kind: "CronJob",
      metadata: { name: "tidy", namespace },
      spec: {
        schedule: "0 3 1 1 *",
        jobTemplate: {
          spec: {
            template: {
              spec: {
                restartPolicy: "Never",
                containers: [{ name: "first", image, command: ["true"] }, worker],
              },
            },
          },
        },
      },
    },
  ];
}
