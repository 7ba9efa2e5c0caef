import { execFileSync } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRpcClient, Identity, Node, Registration } from "@kube-connector/csi-driver";

// A stand-in kubelet: its folders, and the calls that a kubelet of 1.35 makes for an inline volume
// (kubernetes/pkg/volume/csi/csi_mounter.go), each on a connection of its own.

export interface TestPod {
  uid: string;
  namespace: string;
  name: string;
  serviceAccount: string;
  volume: string;
  attributes: Record<string, string>;
  /** Changes with each renewal. */
  renewal: number;
  /** When the first tokens expire, seconds since 1970; each renewal is a second later. */
  expires: number;
  fsGroup?: number;
}

export function testPod(attributes: Record<string, string>, more: Partial<TestPod> = {}): TestPod {
  const uid = more.uid ?? randomUUID();
  const own = { uid, namespace: "team-a", name: `pod-${uid.slice(0, 8)}`, serviceAccount: "default" };
  return { ...own, volume: "access", attributes, renewal: 0, expires: Math.floor(Date.now() / 1000) + 3600, ...more };
}

/** A token as the API server makes them, but for its signature. */
export function testToken(pod: TestPod, audience: string, claims: Record<string, unknown> = {}): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const bound = {
    namespace: pod.namespace,
    pod: { name: pod.name, uid: pod.uid },
    serviceaccount: { name: pod.serviceAccount, uid: "5a" },
  };
  const exp = pod.expires + pod.renewal;
  const body = { aud: [audience], exp, jti: String(pod.renewal), "kubernetes.io": bound, ...claims };
  return `${part({ alg: "RS256" })}.${part(body)}.c2lnbmF0dXJl`;
}

export function testTokens(pod: TestPod, claims: Record<string, unknown> = {}): string {
  const expirationTimestamp = "2030-01-01T00:00:00Z";
  return JSON.stringify({
    "kube-connector-tunnel": { token: testToken(pod, "kube-connector-tunnel", claims), expirationTimestamp },
    "kube-connector": { token: testToken(pod, "kube-connector", claims), expirationTimestamp },
  });
}

export type PublishRequest = Parameters<ReturnType<typeof createRpcClient<typeof Node>>["nodePublishVolume"]>[0];

/** What a failed call says. */
export interface Refusal {
  code: number;
  details: string;
}

export class StandInKubelet {
  readonly root: string;
  readonly driverName = "connectors-csi";

  constructor(root: string) {
    this.root = root;
  }

  get socket(): string {
    return `${this.root}/plugins/${this.driverName}/csi.sock`;
  }

  volumeId(pod: TestPod): string {
    return `csi-${createHash("sha256").update(`${pod.volume}${this.driverName}${pod.uid}`).digest("hex")}`;
  }

  folder(pod: TestPod): string {
    return `${this.root}/pods/${pod.uid}/volumes/kubernetes.io~csi/${pod.volume}`;
  }

  target(pod: TestPod): string {
    return `${this.folder(pod)}/mount`;
  }

  /** The request for a pod, as the kubelet makes it with podInfoOnMount and tokenRequests. */
  request(pod: TestPod): PublishRequest & { volumeContext: Record<string, string> } {
    return {
      volumeId: this.volumeId(pod),
      targetPath: this.target(pod),
      readonly: true,
      volumeCapability: {
        accessType: {
          case: "mount",
          value: { mountFlags: [], volumeMountGroup: pod.fsGroup === undefined ? "" : String(pod.fsGroup) },
        },
      },
      volumeContext: {
        ...pod.attributes,
        "csi.storage.k8s.io/pod.name": pod.name,
        "csi.storage.k8s.io/pod.namespace": pod.namespace,
        "csi.storage.k8s.io/pod.uid": pod.uid,
        "csi.storage.k8s.io/serviceAccount.name": pod.serviceAccount,
        "csi.storage.k8s.io/ephemeral": "true",
        "csi.storage.k8s.io/serviceAccount.tokens": testTokens(pod),
      },
    };
  }

  async call<T>(work: (client: ReturnType<typeof createRpcClient<typeof Node>>) => Promise<T>): Promise<T> {
    const client = createRpcClient(Node, this.socket);
    try {
      return await work(client);
    } finally {
      client.close();
    }
  }

  /** SetUpAt: the folder and its vol_data.json, then the call. */
  async publish(pod: TestPod, change: (request: ReturnType<StandInKubelet["request"]>) => void = () => undefined) {
    await mkdir(this.folder(pod), { recursive: true });
    await writeFile(join(this.folder(pod), "vol_data.json"), "{}");
    const request = this.request(pod);
    change(request);
    await this.call((client) => client.nodePublishVolume(request, { timeout: 120_000 }));
  }

  /** The publish's gRPC code and sentence when it fails; undefined when it does not. */
  async refusal(pod: TestPod, change?: Parameters<StandInKubelet["publish"]>[1]): Promise<Refusal | undefined> {
    return await refusalOf(this.publish(pod, change));
  }

  async unpublish(pod: TestPod): Promise<void> {
    const request = { volumeId: this.volumeId(pod), targetPath: this.target(pod) };
    await this.call((client) => client.nodeUnpublishVolume(request));
    await rm(join(this.folder(pod), "vol_data.json"), { force: true });
  }

  /** The file of a pod's volume, as its container reads it. */
  async read(pod: TestPod, file: string): Promise<string> {
    return await readFile(join(this.target(pod), file), "utf8");
  }

  /** Registers the driver as the kubelet's plugin watcher does. */
  async register(pluginRegistered = true): Promise<{ name: string; endpoint: string; nodeId: string }> {
    const registry = createRpcClient(Registration, `${this.root}/plugins_registry/${this.driverName}-reg.sock`);
    try {
      const { name, endpoint, type } = await registry.getInfo({});
      if (type !== "CSIPlugin") throw new Error(`the plugin's type is ${type}`);
      const identity = createRpcClient(Identity, endpoint);
      await identity.probe({});
      identity.close();
      const { nodeId } = await this.call((client) => client.nodeGetInfo({}));
      await registry.notifyRegistrationStatus({ pluginRegistered, error: pluginRegistered ? "" : "no such node" });
      return { name, endpoint, nodeId };
    } finally {
      registry.close();
    }
  }

  /** The mounts below the kubelet's root. */
  async mounts(): Promise<string[]> {
    const text = await readFile("/proc/self/mountinfo", "utf8");
    return text.split("\n").flatMap((line) => {
      const path = line.split(" ")[4] ?? "";
      return path.startsWith(`${this.root}/`) ? [path] : [];
    });
  }

  /** Undoes all that was mounted and written. */
  async cleanUp(): Promise<void> {
    for (const path of (await this.mounts()).toReversed()) execFileSync("umount", ["-l", path]);
    await rm(this.root, { recursive: true, force: true });
  }
}

export async function refusalOf(call: Promise<unknown>): Promise<Refusal | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    const { code, details } = error as Refusal;
    return { code, details };
  }
}

/** A kubelet's folders in a temporary one. */
export async function createStandInKubelet(): Promise<StandInKubelet> {
  const root = await mkdtemp(join(tmpdir(), "kubelet-"));
  for (const folder of ["pods", "plugins", "plugins_registry"]) await mkdir(join(root, folder));
  return new StandInKubelet(root);
}
