import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { type Background, eventually, getJson, kubectl, kubectlOk, apply, type Outcome, start } from "./kubectl.ts";

// The two clusters that test/cluster/with-cluster.sh runs beside the tests, and what the tests put into them.

function required(name: string): string {
  const text = process.env[name];
  if (text === undefined) throw new Error(`${name} is not set: these tests run by scripts/e2e.sh, beside a cluster`);
  return text;
}

/** Where a target is and how it is entered as admin. */
export interface Target {
  name: "host" | "global";
  address: string;
  ca: string;
  kubeconfig: string;
}

export function targets(): Target[] {
  return [
    {
      name: "host",
      address: required("HOST_ADDRESS"),
      ca: readFileSync(required("HOST_CA"), "utf8"),
      kubeconfig: required("KUBECONFIG"),
    },
    {
      name: "global",
      address: required("TARGET_ADDRESS"),
      ca: readFileSync(required("TARGET_CA"), "utf8"),
      kubeconfig: required("TARGET_KUBECONFIG"),
    },
  ];
}

export function target(name: "host" | "global"): Target {
  const found = targets().find((one) => one.name === name);
  if (found === undefined) throw new Error(`no target ${name}`);
  return found;
}

export const folder = (): string => required("CLUSTER");

/** stop, start, restart, kill, pause or resume a component of the clusters. */
export async function control(verb: string, component: string): Promise<void> {
  const { run } = await import("./kubectl.ts");
  const { code, stderr } = await run("cluster-ctl", [verb, component], { timeout: 120_000 });
  if (code !== 0) throw new Error(`cluster-ctl ${verb} ${component}: ${stderr}`);
}

/**
 * A ServiceAccount of the target with all rights, and a token for it that lives in a Secret there: deleting that Secret
 * revokes the token.
 */
export async function createToken(at: Target, account = "connector", secret = `${account}-token`): Promise<string> {
  await apply(
    [
      { apiVersion: "v1", kind: "Namespace", metadata: { name: "access" } },
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: account, namespace: "access" } },
      {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRoleBinding",
        metadata: { name: `access-${account}` },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
        subjects: [{ kind: "ServiceAccount", name: account, namespace: "access" }],
      },
      {
        apiVersion: "v1",
        kind: "Secret",
        type: "kubernetes.io/service-account-token",
        metadata: { name: secret, namespace: "access", annotations: { "kubernetes.io/service-account.name": account } },
      },
    ],
    { kubeconfig: at.kubeconfig },
  );
  return eventually(async () => {
    const { data } = await getJson<{ data?: { token?: string } }>(["-n", "access", "secret", secret], {
      kubeconfig: at.kubeconfig,
    });
    if (!data?.token) throw new Error(`${secret} has no token yet`);
    return Buffer.from(data.token, "base64").toString();
  });
}

/** Ends a token that createToken made. */
export async function revokeToken(at: Target, secret: string): Promise<void> {
  await kubectlOk(["-n", "access", "delete", "secret", secret], { kubeconfig: at.kubeconfig });
}

export function bearerSecret(
  namespace: string,
  name: string,
  token: string,
  more: Record<string, string> = {},
): object {
  return {
    apiVersion: "v1",
    kind: "Secret",
    type: "connectors.cpaas.io/bearer-token",
    metadata: { name, namespace },
    stringData: { token, ...more },
  };
}

export function connector(
  namespace: string,
  name: string,
  at: Pick<Target, "address" | "ca">,
  more: object = {},
): object {
  return {
    apiVersion: "connectors.cpaas.io/v1alpha1",
    kind: "Connector",
    metadata: { name, namespace },
    spec: {
      connectorClassName: "k8s",
      address: at.address,
      tls: { caBundle: Buffer.from(at.ca).toString("base64") },
      auth: { name: "bearerTokenAuth", secretRef: { name: `${name}-token` } },
      ...more,
    },
  };
}

export interface ConnectorObject {
  metadata: { uid: string; generation: number };
  status?: {
    observedGeneration?: number;
    conditions?: { type: string; status: string; reason: string; message: string; lastTransitionTime: string }[];
    proxy?: { httpAddress?: { url: string }; httpsAddress?: { url: string }; caBundle?: string };
    target?: { version?: string };
    credential?: { expiresAt?: string };
  };
}

/** A condition of a Connector as it is now. */
export async function condition(namespace: string, name: string, type: string) {
  const object = await getJson<ConnectorObject>(["-n", namespace, "connector", name]);
  const found = object.status?.conditions?.find((one) => one.type === type);
  return { ...found, observed: object.status?.observedGeneration === object.metadata.generation };
}

/** Waits until a condition of a Connector has that status (and reason). */
export async function waitFor(
  namespace: string,
  name: string,
  want: { type?: string; status?: string; reason?: string },
  timeout = 90_000,
): Promise<{ message: string; reason: string }> {
  const { type = "Ready", status = "True", reason } = want;
  return eventually(async () => {
    const found = await condition(namespace, name, type);
    if (found.status !== status || (reason !== undefined && found.reason !== reason) || !found.observed) {
      throw new Error(`${namespace}/${name}: ${type} is ${found.status} ${found.reason}: ${found.message}`);
    }
    return { message: found.message ?? "", reason: found.reason ?? "" };
  }, timeout);
}

/**
 * The address of a Connector's Service, once something answers there: Ready says that its proxy serves, and kube-proxy
 * may come to know it a moment later, refusing connections until then.
 */
export async function servedAt(namespace: string, name: string): Promise<string> {
  const service = ["-n", "kube-connector-proxy", "service", `p-${namespace}--${name}`];
  const { clusterIP } = (await getJson<{ spec: { clusterIP: string } }>(service)).spec;
  await eventually(async () => {
    const socket = connectTcp({ host: clusterIP, port: 80 });
    await once(socket, "connect");
    socket.destroy();
  });
  return clusterIP;
}

/** A namespace with the Secret and the Connector for a target, Ready and served. The token's text is the answer. */
export async function connect(
  namespace: string,
  at: Target,
  more: object = {},
  name: string = at.name,
): Promise<string> {
  const token = await createToken(at, `${namespace}-${name}`);
  await apply([
    { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
    bearerSecret(namespace, `${name}-token`, token),
    connector(namespace, name, at, more),
  ]);
  await waitFor(namespace, name, {});
  await servedAt(namespace, name);
  return token;
}

export interface Workbench {
  namespace: string;
  name: string;
  /** Connectors by folder: `/access/<folder>`; `namespace` when it is not the pod's. */
  volumes: Record<string, { connector: string; namespace?: string; configurations?: string }>;
  serviceAccount?: string;
  /** Added to the pod's spec. */
  spec?: object;
  /** Added to the container. */
  container?: object;
}

/** A pod with kubectl and a shell, and connectors' volumes. */
export function workbenchPod({ namespace, name, volumes, serviceAccount, spec, container }: Workbench): object {
  const all = Object.entries(volumes);
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels: { app: name } },
    spec: {
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      ...(serviceAccount === undefined ? {} : { serviceAccountName: serviceAccount }),
      containers: [
        {
          name: "tools",
          image: "localhost/tools:1",
          imagePullPolicy: "Never",
          command: ["sleep", "2147483647"],
          env: [{ name: "HOME", value: "/tmp" }],
          volumeMounts: all.map(([at]) => ({ name: at, mountPath: `/access/${at}`, readOnly: true })),
          ...container,
        },
      ],
      volumes: all.map(([at, { connector: of, namespace: where, configurations }]) => ({
        name: at,
        csi: {
          driver: "connectors-csi",
          readOnly: true,
          volumeAttributes: {
            "connector.name": of,
            ...(where === undefined ? {} : { "connector.namespace": where }),
            "configuration.names": configurations ?? "kubeconfig,kubeconfig-direct",
          },
        },
      })),
      ...spec,
    },
  };
}

/** Makes the pod and waits until it runs. */
export async function startWorkbench(bench: Workbench): Promise<Pod> {
  await apply([workbenchPod(bench)]);
  await kubectlOk(["-n", bench.namespace, "wait", "--for=condition=Ready", `pod/${bench.name}`, "--timeout=120s"], {
    timeout: 130_000,
  });
  return pod(bench.namespace, bench.name);
}

/** A running pod of the hosting cluster, entered as its admin. */
export interface Pod {
  namespace: string;
  name: string;
  /** Runs a shell script in it. */
  sh(script: string, options?: { input?: string | Buffer; timeout?: number }): Promise<Outcome>;
  /** Its standard output; throws when the status is not 0. */
  ok(script: string, options?: { input?: string | Buffer; timeout?: number }): Promise<string>;
  /** Starts a script that goes on. */
  start(script: string): Background;
  delete(): Promise<void>;
}

export function pod(namespace: string, name: string): Pod {
  const args = (script: string) => ["-n", namespace, "exec", "-i", name, "--", "sh", "-c", script];
  const sh: Pod["sh"] = (script, options) => kubectl(args(script), { timeout: 90_000, ...options });
  return {
    namespace,
    name,
    sh,
    async ok(script, options) {
      const { stdout, stderr, code } = await sh(script, options);
      if (code !== 0) throw new Error(`in ${namespace}/${name}: ${script}\nended with ${code}: ${stderr}${stdout}`);
      return stdout;
    },
    start: (script) => start("kubectl", args(script)),
    async delete() {
      await kubectlOk(["-n", namespace, "delete", "pod", name, "--now", "--wait=true"]);
    },
  };
}

/** The messages of an object's events, newest last. */
export async function events(namespace: string, name: string): Promise<string[]> {
  const { items } = await getJson<{ items: { reason: string; message: string }[] }>([
    "-n",
    namespace,
    "events",
    `--field-selector=involvedObject.name=${name}`,
  ]);
  return items.map(({ reason, message }) => `${reason}: ${message}`);
}
