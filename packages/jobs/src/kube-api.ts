import { type ApiServer, type Clock, Fault, type KubeObject, sleep } from "@kube-connector/core";
import type { JobsCounts } from "./counts.ts";
import type { Kube, Page } from "./kube.ts";
import { paths } from "./paths.ts";

/** Milliseconds after which a token that was refused has been read again, if there is a newer one. */
const tokenAge = 1200;

/** Calls to a cluster at a time, and logs that are being opened; those that are open do not count. */
export const callsAtOnce = 64;
const opensAtOnce = 32;

/** The port to a cluster on core's transport. A 401 is tried once more, with the token as the file has it then. */
export function createKube(api: ApiServer, clock: Clock, counts: JobsCounts): Kube {
  // A thousand at once, each with a connection to be made, would all be too late, and be tried again.
  const call = createGate(callsAtOnce);
  const opening = createGate(opensAtOnce);
  async function counted<T>(verb: string, path: string, work: () => Promise<T>): Promise<T> {
    try {
      const answer = await (path.endsWith("/log") ? opening : call)(work);
      counts.asked(verb, resourceOf(path), 200);
      return answer;
    } catch (error) {
      counts.asked(verb, resourceOf(path), error instanceof Fault ? (error.answer?.status ?? 0) : 0);
      throw error;
    }
  }
  async function again<T>(verb: string, path: string, work: () => Promise<T>): Promise<T> {
    try {
      return await counted(verb, path, work);
    } catch (error) {
      if (!(error instanceof Fault && error.answer?.status === 401)) throw error;
      await sleep(clock, tokenAge);
      return counted(verb, path, work);
    }
  }
  return {
    get: (path) => again("get", path, () => api.request("GET", path)),
    list: <T extends KubeObject>(path: string, query: Parameters<Kube["list"]>[1]) =>
      again("list", path, async (): Promise<Page<T>> => {
        const { items, metadata } = await api.request<{
          items?: T[];
          metadata?: { continue?: string; resourceVersion?: string };
        }>("GET", path, { query: { ...query }, timeout: 60_000 });
        return {
          items: items ?? [],
          resourceVersion: metadata?.resourceVersion ?? "",
          ...(metadata?.continue === undefined || metadata.continue === "" ? {} : { next: metadata.continue }),
        };
      }),
    create: (path, object, options = {}) =>
      again("create", path, () =>
        api.request("POST", path, {
          query: { fieldValidation: "Strict", dryRun: options.dryRun === true ? "All" : undefined },
          body: object,
          timeout: 30_000,
        }),
      ),
    patch: (path, change) =>
      again("patch", path, () =>
        api.request("PATCH", path, { body: change, contentType: "application/merge-patch+json" }),
      ),
    remove: (path, { propagation, uid, grace }) =>
      again("delete", path, () =>
        api.request("DELETE", path, {
          body: {
            apiVersion: "v1",
            kind: "DeleteOptions",
            propagationPolicy: propagation,
            ...(uid === undefined ? {} : { preconditions: { uid } }),
            ...(grace === undefined ? {} : { gracePeriodSeconds: grace }),
          },
        }),
      ),
    log: (namespace, pod, { container, follow, previous, sinceTime }, signal) => {
      const path = `${paths.pod(namespace, pod)}/log`;
      return again("get", path, () =>
        api.open(path, {
          query: { container, timestamps: true, follow, previous, sinceTime },
          accept: "*/*",
          timeout: 30_000,
          signal,
        }),
      );
    },
  };
}

/** Does so many works at a time; the others wait, first come first served. */
function createGate(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let free = most;
  return async (work) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
    }
  };
}

/** `pods/log` of `/api/v1/namespaces/n/pods/p/log`. */
function resourceOf(path: string): string {
  const [, resource = "", sub] = /\/namespaces\/[^/]+\/([^/]+)(?:\/[^/]+(?:\/([^/]+))?)?$/.exec(path) ?? [];
  return sub === undefined ? resource : `${resource}/${sub}`;
}
