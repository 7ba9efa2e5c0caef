import { type ChildProcess, fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createTestCa, type TestCa } from "../../kit/certificates.ts";
import { type ControlPlane, createPod, requestToken } from "../../kit/control-plane.ts";
import { resolvedParts } from "../../kit/resolved.ts";
import type { FromTarget, Place, TargetTally, ToTarget } from "./messages.ts";
import { tokenText } from "./tokens.ts";

// Connectors with their targets: each target is a process of its own, with a token that is replaced again and again.

export interface World {
  places: readonly Place[];
  /** Gives every connector a new version: its token, its leaf, or both. */
  rotate(): Promise<void>;
  /** Kills a target, and starts it again a while later. */
  restartTarget(index: number): Promise<void>;
  /** Kills all targets, and starts them again after `during`. */
  withoutTargets(during: () => Promise<void>): Promise<void>;
  seen(): TargetTally;
  stop(): Promise<void>;
}

export interface WorldOptions {
  plane: ControlPlane;
  directory: string;
  /** A target goes, and is back. */
  onOutage(outage: { connector: string; from: number; to?: number }): void;
}

interface Described {
  namespace: string;
  name: string;
  prefix: string;
  http2: boolean;
}

const described: readonly Described[] = [
  { namespace: "team-a", name: "red", prefix: "", http2: true },
  { namespace: "team-a", name: "green", prefix: "/kubernetes/green", http2: true },
  { namespace: "team-b", name: "blue", prefix: "", http2: false },
];
const callersEach = 3;
const key = randomUUID();
const targetMain = fileURLToPath(new URL("./target-main.ts", import.meta.url));

export async function startWorld(options: WorldOptions): Promise<World> {
  const { plane, directory } = options;
  const pods = new Map<string, Place["callers"]>();
  for (const namespace of ["team-a", "team-b"]) pods.set(namespace, await createCallers(plane, namespace));
  const targetCa = await createTestCa("targets");
  const seen: TargetTally = { requests: 0, wrong: [], latest: 0 };
  const connectors: Awaited<ReturnType<typeof startConnector>>[] = [];
  for (const one of described) connectors.push(await startConnector(one, { ...options, directory, targetCa, seen }));
  const places = connectors.map(({ place, namespace }) => {
    const strangers = pods.get(namespace === "team-a" ? "team-b" : "team-a");
    const [stranger] = strangers ?? [];
    if (stranger === undefined) throw new Error("nobody is a stranger");
    return { ...place, callers: pods.get(namespace) ?? [], stranger };
  });
  const at = (index: number) => connectors[index % connectors.length];
  return {
    places,
    rotate: async () => void (await Promise.all(connectors.map((one) => one.rotate()))),
    restartTarget: async (index) => await at(index)?.restart(async () => await pause(500)),
    async withoutTargets(during) {
      let left = connectors.length;
      let gone: () => void = () => undefined;
      const allGone = new Promise<void>((resolve) => (gone = resolve));
      const done = allGone.then(during);
      const wait = async () => {
        left -= 1;
        if (left === 0) gone();
        await done;
      };
      await Promise.all(connectors.map((one) => one.restart(wait)));
    },
    seen: () => seen,
    stop: async () => void (await Promise.all(connectors.map((one) => one.stop()))),
  };
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

async function createCallers(plane: ControlPlane, namespace: string): Promise<Place["callers"]> {
  const names = Array.from({ length: callersEach }, (_, index) => `soak-${index}`);
  return await Promise.all(
    names.map(async (name) => {
      const pod = { name, uid: await createPod(plane.admin, namespace, name) };
      const [tunnel, request] = await Promise.all(
        ["kube-connector-tunnel", "kube-connector"].map((audience) =>
          requestToken(plane.admin, { namespace, audience, pod }),
        ),
      );
      return { tunnel: tunnel?.reveal() ?? "", request: request?.reveal() ?? "" };
    }),
  );
}

async function startConnector(one: Described, options: WorldOptions & { targetCa: TestCa; seen: TargetTally }) {
  const { seen, targetCa } = options;
  const connector = `${one.namespace}/${one.name}`;
  const ca = await createTestCa(connector);
  const identity = await targetCa.leaf(["127.0.0.1"]);
  const folder = join(options.directory, `${one.namespace}-${one.name}`);
  const replaced: [version: number, at: number][] = [];
  const state = { version: 0, tokenVersion: 1, leaf: {} as Record<string, string>, restarting: false };
  let target = await startTarget(0);

  async function startTarget(port: number): Promise<{ child: ChildProcess; port: number; ended: Promise<unknown> }> {
    const child = fork(targetMain, [], { stdio: "inherit" });
    const ended = new Promise((resolve) => child.once("close", resolve));
    const ready = new Promise<number>((resolve, reject) => {
      child.on("message", (message: FromTarget) => {
        if ("ready" in message) resolve(message.ready);
        else note(message.seen);
      });
      child.once("close", (status) => reject(new Error(`a target ended with status ${status}`)));
    });
    const start: ToTarget = {
      start: {
        connector,
        key,
        port,
        prefix: one.prefix,
        http2: one.http2,
        certificate: identity.certificate,
        privateKey: identity.key,
        replaced,
      },
    };
    child.send(start);
    const listens = await ready;
    child.once("close", (status) => {
      if (!state.restarting) seen.wrong.push(`the target of ${connector} ended by itself with status ${status}`);
    });
    return { child, port: listens, ended };
  }

  function note(tally: TargetTally): void {
    seen.requests += tally.requests;
    seen.wrong.push(...tally.wrong);
    seen.latest = Math.max(seen.latest, tally.latest);
  }

  /** As the kubelet writes a mounted Secret: a new folder, and a link that is renamed. */
  async function write(): Promise<void> {
    state.version += 1;
    const entries = await resolvedParts({
      ...one,
      address: `https://127.0.0.1:${target.port}${one.prefix}`,
      tls: { caBundle: targetCa.certificate },
      token: tokenText(key, connector, state.tokenVersion),
      ca,
    });
    const now = `..version-${state.version}`;
    await mkdir(join(folder, now), { recursive: true });
    for (const [name, secret] of Object.entries(entries)) {
      // A leaf that is not to be replaced stays as it was.
      const text = name.startsWith("tls.") ? (state.leaf[name] ??= secret.reveal()) : secret.reveal();
      await writeFile(join(folder, now, name), text);
    }
    await symlink(now, join(folder, "..next"));
    await rename(join(folder, "..next"), join(folder, "..data"));
  }

  await write();
  const place = {
    connector,
    authority: `127.0.0.1:${target.port}`,
    prefix: one.prefix,
    service: `c-${one.name}.${one.namespace}.svc.cluster.local`,
    ca: ca.certificate,
    http2: one.http2,
  };
  return {
    place,
    namespace: one.namespace,
    async rotate() {
      const what = state.version % 3;
      const old = state.tokenVersion;
      if (what !== 1) state.tokenVersion += 1;
      if (what !== 2) state.leaf = {};
      await write();
      if (what === 1) return;
      const change: [number, number] = [old, Date.now()];
      replaced.push(change);
      if (target.child.connected) target.child.send({ replaced: change } satisfies ToTarget, () => undefined);
    },
    /** Gone for as long as `away` takes. */
    async restart(away: () => Promise<void>) {
      if (state.restarting) return;
      state.restarting = true;
      const from = Date.now();
      options.onOutage({ connector, from });
      target.child.kill("SIGKILL");
      await target.ended;
      await away();
      target = await startTarget(target.port);
      options.onOutage({ connector, from, to: Date.now() });
      state.restarting = false;
    },
    async stop() {
      state.restarting = true;
      target.child.kill("SIGKILL");
      await target.ended;
    },
  };
}
