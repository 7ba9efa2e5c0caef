import { createServer, type Server } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import {
  type ApiServer,
  Fault,
  type KubeObject,
  type Reflector,
  silentLog,
  startReflector,
  systemClock,
} from "@kube-connector/core";
import { createTestCa } from "./certificates.ts";

// Stands in for scheduler and kubelet beside a real API server and controller manager: one Node, whose pods start, write
// their log and end as their annotation says. Logs go the real way: the API server asks this server for them.

/** In the pod's annotation `stand-in/script`, as JSON; what is left out: no line, ends with 0 at once. */
export interface PodScript {
  /** Milliseconds until it runs. */
  startAfter?: number;
  /** Milliseconds until the API server knows its node, which all else does not wait for then. */
  bindAfter?: number;
  /** Lines that it writes, instead of numbered ones. */
  texts?: string[];
  /** Lines that it writes, numbered from 0: `line 0`, `line 1`. */
  lines?: number;
  /** What stands after the number of each. */
  text?: string;
  /** Milliseconds between two of them; 0: all at once. */
  every?: number;
  /** Milliseconds that it goes on after its last line; -1: for ever. */
  stay?: number;
  /** After its last line it goes on until `release` is called. */
  until?: "released";
  /** With `until`: it ends at some time within so many milliseconds after that. */
  over?: number;
  /** Exit status of each completion index or, when there is one only, of all. */
  exit?: number | number[];
  /** The termination message. */
  message?: string;
  /** Never starts, for this reason: `ImagePullBackOff`. */
  waiting?: { reason: string; message?: string };
}

export interface StandInKubelet {
  /** Pods that it has seen end. */
  ended(): number;
  /** Ends every open log stream in the middle. */
  cutLogs(): void;
  /** Lets all pods end that stay until then. */
  release(): void;
  /** Log streams that are open. */
  follows(): number;
  stop(): Promise<void>;
}

interface Line {
  stamp: string;
  text: string;
}

interface Played {
  lines: Line[];
  ended: boolean;
  listeners: Set<() => void>;
  timers: Set<NodeJS.Timeout>;
  /** The last change of its status that was sent; they are sent one after the other, as a kubelet does. */
  told: Promise<void>;
}

const nodeName = "stand-in";
/** Milliseconds from a program's end to that of its log's streams, at most. */
const endTime = 200;
/** Milliseconds from a pod's deletion to the end of its programs. */
const stopTime = 500;

/** Registers the Node and plays the pods of all namespaces that no other node has. */
export async function startStandInKubelet(api: ApiServer): Promise<StandInKubelet> {
  const ca = await createTestCa("stand-in kubelet");
  const { certificate, key } = await ca.leaf(["127.0.0.1"]);
  const played = new Map<string, Played>();
  const byName = new Map<string, string>();
  const streams = new Set<ServerResponse>();
  const staying = new Set<() => void>();
  let released = false;
  let ended = 0;
  let clock = 0n;
  let stopped = false;

  /** Nanoseconds never stand still, as with a real runtime. */
  const stamp = (): string => {
    const now = BigInt(Date.now()) * 1_000_000n;
    clock = now > clock ? now : clock + 1_000n;
    const date = new Date(Number(clock / 1_000_000n)).toISOString().slice(0, 19);
    return `${date}.${String(clock % 1_000_000_000n).padStart(9, "0")}Z`;
  };

  const server: Server = createServer({ cert: certificate, key }, (request, response) => answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await api.request("POST", "/api/v1/nodes", { body: { metadata: { name: nodeName } } });
  await api.request("PATCH", `/api/v1/nodes/${nodeName}/status`, {
    contentType: "application/merge-patch+json",
    body: {
      status: {
        addresses: [{ type: "InternalIP", address: "127.0.0.1" }],
        daemonEndpoints: { kubeletEndpoint: { Port: port } },
        conditions: [{ type: "Ready", status: "True", reason: "StandIn" }],
      },
    },
  });

  function answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "", "https://x");
    const [, kind, namespace, name] = url.pathname.split("/");
    const one = played.get(byName.get(`${namespace}/${name}`) ?? "");
    response.on("error", () => undefined);
    if (kind !== "containerLogs" || one === undefined) {
      response.writeHead(404).end(`the container has no log`);
      return;
    }
    const since = Date.parse(url.searchParams.get("sinceTime") ?? "") || 0;
    const isFrom = ({ stamp: at }: Line) => Date.parse(`${at.slice(0, 19)}Z`) >= since;
    let next = one.lines.findIndex(isFrom);
    if (next < 0) next = one.lines.length;
    const withStamps = url.searchParams.get("timestamps") === "true";
    response.writeHead(200, { "content-type": "text/plain" });
    streams.add(response);
    const push = () => {
      if (next < one.lines.length) {
        const fresh = one.lines.slice(next);
        next = one.lines.length;
        response.write(fresh.map((line) => `${withStamps ? `${line.stamp} ` : ""}${line.text}\n`).join(""));
      }
      if (one.ended || url.searchParams.get("follow") !== "true") {
        streams.delete(response);
        one.listeners.delete(push);
        response.end();
      }
    };
    one.listeners.add(push);
    response.on("close", () => {
      streams.delete(response);
      one.listeners.delete(push);
    });
    push();
  }

  const later = (one: Played, milliseconds: number, work: () => void) => {
    const timer = setTimeout(() => {
      one.timers.delete(timer);
      if (!stopped) work();
    }, milliseconds);
    one.timers.add(timer);
  };

  /** A pod that is gone meanwhile needs nothing more; an API server that is away, or has just come, is waited for. */
  const ask = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      const status = error instanceof Fault ? (error.answer?.status ?? 0) : 0;
      if (stopped || [404, 409, 422].includes(status)) return;
      await new Promise((resolve) => setTimeout(resolve, 500).unref());
      await ask(work);
    }
  };

  const patchStatus = ({ metadata }: KubeObject, status: object) =>
    api.request("PATCH", `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}/status`, {
      contentType: "application/merge-patch+json",
      body: { metadata: { uid: metadata.uid }, status },
    });

  function play(pod: KubeObject): void {
    const { uid = "", name, namespace } = pod.metadata;
    const one: Played = {
      lines: [],
      ended: false,
      listeners: new Set(),
      timers: new Set(),
      told: Promise.resolve(),
    };
    played.set(uid, one);
    byName.set(`${namespace}/${name}`, uid);
    const annotations = (pod.metadata.annotations ?? {}) as Record<string, string>;
    const script = JSON.parse(annotations["stand-in/script"] ?? "{}") as PodScript;
    const index = Number(annotations["batch.kubernetes.io/job-completion-index"] ?? 0);
    const { containers } = pod.spec as { containers: { name: string; image: string }[] };
    const startedAt = () => `${new Date().toISOString().slice(0, 19)}Z`;
    const statuses = (state: object, ready: boolean) =>
      containers.map((container) => ({
        name: container.name,
        image: container.image,
        imageID: `${container.image}@sha256:stand-in`,
        restartCount: 0,
        ready,
        started: ready,
        state,
      }));
    const write = (from: number) => {
      if (played.get(uid) !== one) return;
      const count = script.texts?.length ?? script.lines ?? 0;
      const upTo = (script.every ?? 0) > 0 ? Math.min(from + 1, count) : count;
      for (let at = from; at < upTo; at++)
        one.lines.push({ stamp: stamp(), text: script.texts?.[at] ?? `line ${at}${script.text ?? ""}` });
      for (const listener of one.listeners) listener();
      if (upTo < count) later(one, script.every ?? 0, () => write(upTo));
      else if (script.until === "released" && !released)
        staying.add(() => later(one, Math.random() * (script.over ?? 0), finish));
      else if (script.stay !== -1) later(one, script.stay ?? 0, finish);
    };
    const tell = (status: object) => {
      one.told = one.told.then(() => ask(() => patchStatus(pod, status)));
    };
    const began = { at: "" };
    const finish = () => {
      const exit = Array.isArray(script.exit) ? (script.exit[index] ?? 0) : (script.exit ?? 0);
      ended += 1;
      const terminated = {
        exitCode: exit,
        reason: exit === 0 ? "Completed" : "Error",
        startedAt: began.at,
        finishedAt: startedAt(),
        ...(script.message === undefined ? {} : { message: script.message }),
      };
      tell({
        phase: exit === 0 ? "Succeeded" : "Failed",
        conditions: [
          { type: "Ready", status: "False", reason: "PodCompleted" },
          { type: "PodScheduled", status: "True" },
        ],
        containerStatuses: statuses({ terminated }, false),
      });
      // Who follows a log is told of its end when the kubelet looks the next time, which may be later or sooner than the status.
      later(one, Math.random() * endTime, () => {
        one.ended = true;
        for (const listener of one.listeners) listener();
      });
    };
    const begin = () => {
      began.at = startedAt();
      if (script.waiting !== undefined) {
        tell({ phase: "Pending", containerStatuses: statuses({ waiting: script.waiting }, false) });
        return;
      }
      tell({
        phase: "Running",
        startTime: began.at,
        podIP: "127.0.0.1",
        conditions: [
          { type: "Ready", status: "True" },
          { type: "PodScheduled", status: "True" },
        ],
        containerStatuses: statuses({ running: { startedAt: began.at } }, true),
      });
      write(0);
    };
    const bind = () =>
      ask(() =>
        api.request("POST", `/api/v1/namespaces/${namespace}/pods/${name}/binding`, {
          body: { metadata: { name }, target: { kind: "Node", name: nodeName } },
        }),
      );
    const start = () => later(one, script.startAfter ?? 0, begin);
    if (script.bindAfter === undefined) void bind().then(start);
    else {
      later(one, script.bindAfter, () => void bind());
      start();
    }
  }

  function forget(pod: KubeObject): void {
    const { uid = "", name, namespace } = pod.metadata;
    const one = played.get(uid);
    played.delete(uid);
    if (byName.get(`${namespace}/${name}`) === uid) byName.delete(`${namespace}/${name}`);
    for (const timer of one?.timers ?? []) clearTimeout(timer);
    if (one === undefined) return;
    one.ended = true;
    for (const listener of one.listeners) listener();
  }

  const pods: Reflector<KubeObject> = startReflector<KubeObject>({
    api,
    clock: systemClock,
    log: silentLog,
    path: "/api/v1/pods",
    keep: (object) => object,
    onChange: (_key, { before, after }) => {
      if (before !== undefined && before.metadata.uid !== after?.metadata.uid) forget(before);
      if (after === undefined) return;
      if (after.metadata.deletionTimestamp !== undefined) {
        const one = played.get(after.metadata.uid ?? "");
        const remove = () =>
          void ask(() =>
            api.request("DELETE", `/api/v1/namespaces/${after.metadata.namespace}/pods/${after.metadata.name}`, {
              body: { apiVersion: "v1", kind: "DeleteOptions", gracePeriodSeconds: 0 },
            }),
          );
        // A program takes a moment to end, in which its log can be read.
        if (one === undefined || one.ended) remove();
        else if (before?.metadata.deletionTimestamp === undefined) later(one, stopTime, remove);
        return;
      }
      const { nodeName: node } = after.spec as { nodeName?: string };
      if (node === undefined && !played.has(after.metadata.uid ?? "")) play(after);
    },
  });
  await pods.synced;

  return {
    ended: () => ended,
    release() {
      released = true;
      for (const end of staying) end();
      staying.clear();
    },
    follows: () => streams.size,
    cutLogs() {
      for (const response of streams) response.destroy();
    },
    async stop() {
      stopped = true;
      await pods.stop();
      for (const one of played.values()) for (const timer of one.timers) clearTimeout(timer);
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
