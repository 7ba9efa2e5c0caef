import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createTestCa } from "../kit/certificates.ts";
import { folder as clusterFolder, target, waitFor } from "./cluster.ts";
import { apply, eventually, getJson, kubectl, kubectlOk } from "./kubectl.ts";

// The jobs service as an administrator deploys it, by the files of deploy/examples, and a client of its API.

const deploy = fileURLToPath(new URL("../../deploy", import.meta.url));
export const example = (file: string) => readFile(join(deploy, "examples", file), "utf8");
export const ns = "team-a";
export const batch = "batch";

export interface JobsService {
  /** What a caller shows. */
  token: string;
  /** The token of the target that the Connector stores. */
  targetToken: string;
  /** PEM, of the API's certificate. */
  ca: string;
  /** What kubectl said while it applied jobs.yaml. */
  applied: string;
  /** The pod that serves now; waits until there is one, and no other. */
  pod(): Promise<string>;
  /** One request, through the Service. */
  ask(method: string, path: string, options?: { body?: unknown; token?: string }): Promise<Answer>;
  /** The events of a run, until the server has no more or goes away. */
  events(id: string, after?: string): AsyncGenerator<ServiceEvent>;
  stop(): Promise<void>;
}

export interface Answer {
  status: number;
  text: string;
  /** Parsed, when it is JSON. */
  body: unknown;
}

export interface ServiceEvent {
  type: string;
  id: string;
  /** Of a log event its lines; else what happened. */
  data: { lines?: string[]; data?: { state?: string } };
}

const onTarget = (...args: string[]) => kubectlOk(args, { kubeconfig: target("global").kubeconfig });

/** What deploy/README.md says, step by step, on a cluster that has the product. */
export async function deployJobsService(): Promise<JobsService> {
  const work = await mkdtemp(join(tmpdir(), "jobs-deploy-"));
  try {
    await kubectlOk(["apply", "-f", `${deploy}/crd/`]);
    await kubectlOk(["apply", "-f", `${deploy}/install.yaml`]);
    const [targetToken, secrets] = await Promise.all([grantOnTarget(), makeSecrets(work)]);
    await connectTarget(work, targetToken);
    await giveDisk();
    // Whoever keeps namespaces restricted is told here what the pod does not keep to.
    await kubectlOk(["label", "namespace", ns, "--overwrite", "pod-security.kubernetes.io/warn=restricted"]);
    const { stdout, stderr, code } = await kubectl(["apply", "-f", `${deploy}/examples/jobs.yaml`]);
    if (code !== 0) throw new Error(stderr);
    await kubectlOk(["-n", ns, "rollout", "status", "deployment/jobs", "--timeout=120s"], { timeout: 130_000 });
    const { spec } = await getJson<{ spec: { clusterIP: string } }>(["-n", ns, "service", "jobs"]);
    const service = createClient({ ...secrets, targetToken, applied: stdout + stderr, address: spec.clusterIP, work });
    // A pod is Ready a moment before its Service leads to it.
    await eventually(() => service.ask("GET", "/readyz"), 30_000);
    return service;
  } catch (error) {
    await rm(work, { recursive: true, force: true });
    throw error;
  }
}

/** target.yaml and jobs-target.yaml; the account's token. */
async function grantOnTarget(): Promise<string> {
  for (const file of ["target.yaml", "jobs-target.yaml"]) await onTarget("apply", "-f", `${deploy}/examples/${file}`);
  return eventually(async () => {
    const path = "-o=jsonpath={.data.token}";
    const token = await onTarget("-n", "kube-connector-access", "get", "secret", "team-a", path);
    if (token === "") throw new Error("the account has no token yet");
    return Buffer.from(token, "base64").toString();
  });
}

/** jobs-token and jobs-tls. */
async function makeSecrets(work: string): Promise<{ token: string; ca: string }> {
  const token = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex");
  const authority = await createTestCa("jobs CA");
  const leaf = await authority.leaf(["jobs.team-a.svc"]);
  for (const [name, text] of Object.entries({ token, crt: leaf.certificate, key: leaf.key })) {
    await writeFile(join(work, name), text);
  }
  await apply([{ apiVersion: "v1", kind: "Namespace", metadata: { name: ns } }]);
  await replaceSecret(["generic", "jobs-token", `--from-file=token=${work}/token`]);
  await replaceSecret(["tls", "jobs-tls", `--cert=${work}/crt`, `--key=${work}/key`]);
  return { token, ca: authority.certificate };
}

async function replaceSecret(args: string[]): Promise<void> {
  await kubectlOk(["-n", ns, "delete", "secret", args[1] ?? "", "--ignore-not-found"]);
  await kubectlOk(["-n", ns, "create", "secret", ...args]);
}

/** secret.yaml's better way, and connector.yaml with the address of the target. */
async function connectTarget(work: string, targetToken: string): Promise<void> {
  const at = target("global");
  await writeFile(join(work, "target-token"), targetToken);
  await writeFile(join(work, "ca.crt"), at.ca);
  await replaceSecret([
    "generic",
    "prod-token",
    "--type=connectors.cpaas.io/bearer-token",
    `--from-file=token=${work}/target-token`,
    `--from-file=ca.crt=${work}/ca.crt`,
  ]);
  const text = await example("connector.yaml");
  await apply(text.replace("https://192.168.1.100:6443/kubernetes/global", at.address));
  await waitFor(ns, "prod", {});
}

/** The cluster has no StorageClass; this is the disk that a claim gets from one. */
async function giveDisk(): Promise<void> {
  const path = join(clusterFolder(), "jobs-disk");
  await mkdir(path, { recursive: true, mode: 0o755 });
  await apply([
    {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name: "jobs-disk" },
      spec: {
        capacity: { storage: "50Gi" },
        accessModes: ["ReadWriteOnce"],
        local: { path },
        claimRef: { name: "jobs", namespace: ns },
        nodeAffinity: {
          required: {
            nodeSelectorTerms: [
              { matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: ["node1"] }] },
            ],
          },
        },
      },
    },
  ]);
}

function createClient(
  options: Pick<JobsService, "token" | "targetToken" | "ca" | "applied"> & { address: string; work: string },
): JobsService {
  const { token, ca, address, work } = options;

  function open(method: string, path: string, headers: object, body?: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const call = request(
        {
          host: address,
          port: 8443,
          servername: "jobs.team-a.svc",
          ca,
          method,
          path,
          agent: false,
          timeout: 60_000,
          headers: { host: "jobs.team-a.svc:8443", authorization: `Bearer ${token}`, ...headers },
        },
        resolve,
      );
      call.once("error", reject);
      call.once("timeout", () => call.destroy(new Error(`${method} ${path}: nothing for a minute`)));
      call.end(body);
    });
  }

  return {
    ...options,
    async pod() {
      return eventually(async () => {
        const { items } = await getJson<{
          items: { metadata: { name: string; deletionTimestamp?: string }; status: { conditions?: Condition[] } }[];
        }>(["-n", ns, "pods", "-l", "app.kubernetes.io/name=jobs"]);
        const [one, ...others] = items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
        const isReady = one?.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True");
        if (one === undefined || others.length > 0 || isReady !== true) throw new Error("no pod serves");
        return one.metadata.name;
      }, 90_000);
    },
    async ask(method, path, { body, token: shown = token } = {}) {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const type = text === undefined ? {} : { "content-type": "application/json" };
      const answer = await open(method, path, { authorization: `Bearer ${shown}`, ...type }, text);
      const pieces: Buffer[] = [];
      for await (const piece of answer) pieces.push(piece as Buffer);
      const said = Buffer.concat(pieces).toString();
      const isJson = answer.headers["content-type"]?.includes("json") === true;
      return { status: answer.statusCode ?? 0, text: said, body: isJson ? JSON.parse(said) : undefined };
    },
    async *events(id, after = "0:0") {
      const answer = await open("GET", `/v1/runs/${id}/events`, { "last-event-id": after });
      if (answer.statusCode !== 200) throw new Error(`the events of ${id}: ${answer.statusCode}`);
      let rest = "";
      for await (const piece of answer.setEncoding("utf8")) {
        const blocks = (rest + String(piece)).split("\n\n");
        rest = blocks.pop() ?? "";
        for (const block of blocks) {
          const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
          const { event, id: position, data } = fields as Record<string, string | undefined>;
          if (data === undefined) continue;
          yield { type: event ?? "", id: position ?? "", data: JSON.parse(data) as ServiceEvent["data"] };
        }
      }
    },
    async stop() {
      await kubectlOk(["delete", "-f", `${deploy}/examples/jobs.yaml`, "--ignore-not-found"], { timeout: 120_000 });
      await kubectlOk(["delete", "pv", "jobs-disk", "--ignore-not-found", "--wait=false"]);
      await kubectlOk(["-n", ns, "delete", "connector", "prod", "--ignore-not-found"]);
      await onTarget("delete", "namespace", batch, "--ignore-not-found", "--wait=false");
      await rm(work, { recursive: true, force: true });
    },
  };
}

interface Condition {
  type: string;
  status: string;
}
