import type { KubeObject } from "@kube-connector/core";
import { type Kind, kindOf } from "./kinds.ts";
import type { Pods } from "./pods.ts";
import { type Store, timestamp } from "./store.ts";

/** What a sample cluster has from its start: two namespaces, three pods, a ConfigMap. */
export function seed(store: Store, pods: Pods): void {
  const hours = 3_600_000;
  const put = (resource: string, name: string, object: Omit<KubeObject, "metadata"> = {}, namespace?: string) =>
    store.create(kindOf(resource) as Kind, {
      ...object,
      metadata: {
        name,
        ...(namespace === undefined ? {} : { namespace }),
        labels: resource === "namespaces" ? { "kubernetes.io/metadata.name": name } : { app: name },
        creationTimestamp: timestamp(Date.now() - 30 * hours),
      },
    });
  for (const name of ["default", "kube-system"]) put("namespaces", name, { status: { phase: "Active" } });
  put("configmaps", "app-settings", { data: { "log.level": "info", "feature.checkout": "on" } }, "default");
  for (const [name, namespace] of [
    ["web", "default"],
    ["worker", "default"],
    ["dns", "kube-system"],
  ] as const) {
    const container = { name, image: `registry.example/${name}:1.0`, ports: [{ containerPort: 8080 }] };
    const spec = { containers: [container], restartPolicy: "Always", serviceAccountName: "default" };
    pods.began(put("pods", name, { spec, status: { phase: "Pending" } }, namespace), "already");
  }
}
