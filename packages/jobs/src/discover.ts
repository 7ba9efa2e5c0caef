import { Fault, type KubeObject } from "@kube-connector/core";
import type { Store } from "./history/store.ts";
import type { Kube } from "./kube.ts";
import { runLabels } from "./labels.ts";
import { paths } from "./paths.ts";
import { describeSource, type SourceItem } from "./source/parameters.ts";
import { stripSource } from "./source/strip.ts";

/** Objects asked for in one call, unless told. */
const pageSize = 100;

export interface DiscoverQuery {
  connector: string;
  namespace: string;
  kind: "Job" | "CronJob";
  /** Objects asked for, 1 to 1000; 100 unless told. A page has fewer where some of them are no sources. */
  limit?: number;
  /** `next` of the page before. */
  cursor?: string;
  /** Also our own runs, and Jobs that a CronJob made. */
  all?: boolean;
  /** Parameters of all containers, not of the first alone. */
  allContainers?: boolean;
}

export interface SourcePage {
  items: SourceItem[];
  /** Absent on the last page. */
  next?: string;
  /** The API server had forgotten the cursor, so this is the first page again. */
  restarted?: true;
}

/** One page of what can be cloned; each is kept as a snapshot, for when it is gone. */
export async function discover(kube: Kube, store: Store, query: DiscoverQuery): Promise<SourcePage> {
  const { connector, namespace, kind, limit = pageSize } = query;
  const path = kind === "Job" ? paths.jobs(namespace) : paths.cronJobs(namespace);
  const page = (cursor: string | undefined) =>
    kube.list<KubeObject>(path, {
      limit,
      // Our own runs may be most of what is there.
      ...(query.all === true ? {} : { labelSelector: `!${runLabels.engine}` }),
      ...(cursor === undefined ? {} : { continue: cursor }),
    });
  let restarted = false;
  const found = await page(query.cursor).catch((error: unknown) => {
    if (query.cursor === undefined || !(error instanceof Fault && error.answer?.status === 410)) throw error;
    restarted = true;
    return page(undefined);
  });
  const shown = found.items.filter((object) => query.all === true || isSource(object));
  // The API server leaves the kind out of a list's items.
  const whole = shown.map((object) => ({ ...object, kind }));
  await Promise.all(
    whole.map((object) =>
      store.saveSnapshot({ connector, kind, namespace, name: object.metadata.name }, { ...stripSource(object) }),
    ),
  );
  return {
    items: whole.map((object) => describeSource(kind, object, { allContainers: query.allContainers === true })),
    ...(found.next === undefined ? {} : { next: found.next }),
    ...(restarted ? { restarted } : {}),
  };
}

/** What a CronJob has made is no source beside the CronJob itself. */
function isSource({ metadata }: KubeObject): boolean {
  const owners = (metadata.ownerReferences ?? []) as { kind?: string }[];
  return !owners.some(({ kind }) => kind === "CronJob");
}
