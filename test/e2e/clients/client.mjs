// client-node: list, watch, exec and apply with the kubeconfig that KUBECONFIG names.
import { Writable } from "node:stream";
import { CoreV1Api, Exec, KubeConfig, KubernetesObjectApi, PatchStrategy, Watch } from "@kubernetes/client-node";

const config = new KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(CoreV1Api);
const { items } = await core.listNamespace();
console.log(`list [${items.map((item) => item.metadata.name).join(", ")}]`);

let announce;
const seen = new Promise((resolve) => (announce = resolve));
const { metadata } = await core.listNamespacedConfigMap({ namespace: "work" });
const controller = await new Watch(config).watch(
  "/api/v1/namespaces/work/configmaps",
  { resourceVersion: metadata.resourceVersion },
  (_, object) => object.metadata?.name === "from-javascript" && announce(true),
  () => announce(false),
);
const objects = KubernetesObjectApi.makeApiClient(config);
const applied = await objects.patch(
  { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "from-javascript", namespace: "work" }, data: { a: "1" } },
  undefined,
  undefined,
  "javascript",
  true,
  PatchStrategy.ServerSideApply,
);
console.log("apply", applied.data.a);
console.log("watch", await seen);
controller.abort();

let out = "";
const write = new Writable({
  write(chunk, _, done) {
    out += chunk;
    done();
  },
});
const status = await new Promise((resolve, reject) => {
  new Exec(config).exec("work", "subject", "main", ["echo", "hello"], write, write, null, false, resolve).catch(reject);
});
console.log("exit", status.status);
console.log("exec", out.trim());
process.exit(0);
