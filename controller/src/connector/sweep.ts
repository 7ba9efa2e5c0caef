import { type ApiServer, type Connector, Fault, type Log } from "@kube-connector/core";
import { deleteChild } from "../kube/apply.ts";
import type { KnownChild, World } from "../world.ts";
import { classLabelValue } from "./children.ts";

interface Hands {
  /** undefined in the answer: nothing is deleted by a replica that does not lead. */
  api: ApiServer;
  world: World;
  log: Log;
}

/** Deletes the children of one name whose Connector is gone, after a live GET says so. */
export async function sweepConnector(key: string, hands: Hands): Promise<void> {
  await sweepChildren(key, hands.world.childrenOf(key), hands);
}

/** Looks at all children. Does nothing before every list was read once. */
export async function sweepAll(hands: Hands): Promise<void> {
  if (!hands.world.isSynced()) return;
  const orphans = new Map<string, KnownChild[]>();
  for (const child of hands.world.children()) {
    if (child.connector === undefined) continue;
    if (hands.world.connector(child.connector)?.metadata.uid === child.connectorUid) continue;
    orphans.set(child.connector, [...(orphans.get(child.connector) ?? []), child]);
  }
  for (const [key, children] of orphans) await sweepChildren(key, children, hands);
  // Shared proxies of classes that no Connector names any more, the class being there or not.
  const named = new Set([...hands.world.connectors()].map(([, one]) => classLabelValue(one.spec.connectorClassName)));
  const unnamed = [...hands.world.children()].flatMap(({ class: label }) =>
    label === undefined || named.has(label) ? [] : [label],
  );
  for (const label of new Set(unnamed)) await sweepClass(label, hands);
}

async function sweepChildren(key: string, children: readonly KnownChild[], hands: Hands): Promise<void> {
  if (children.length === 0 || !hands.world.isSynced()) return;
  const [namespace = "", name = ""] = key.split("/");
  let uid: string | undefined;
  try {
    const path = `/apis/connectors.cpaas.io/v1alpha1/namespaces/${namespace}/connectors/${name}`;
    uid = (await hands.api.request<Connector>("GET", path)).metadata.uid;
  } catch (error) {
    // Only "there is none" is an answer; anything else says nothing about the Connector.
    if (!(error instanceof Fault && error.answer?.status === 404 && error.answer.reason === "NotFound")) throw error;
    if (await resourceIsGone(hands.api)) return;
  }
  const orphans = children.filter((child) => child.connectorUid !== uid);
  for (const child of orphans) {
    await deleteChild(hands.api, child);
    hands.world.deleted(child);
  }
  if (orphans.length > 0) hands.log.info("Removed what a deleted Connector left", { key, count: orphans.length });
}

/** A 404 also comes when the whole kind is not served, as while its CRD is being replaced: no reason to delete. */
async function resourceIsGone(api: ApiServer): Promise<boolean> {
  const list = await api
    .request<{ resources?: { name: string }[] }>("GET", "/apis/connectors.cpaas.io/v1alpha1")
    .catch((error: unknown) => {
      if (error instanceof Fault && error.answer?.status === 404) return { resources: [] };
      throw error;
    });
  return !(list.resources ?? []).some(({ name }) => name === "connectors");
}

/** Deletes the children of a class's Shared proxy, once no Connector is served by it. */
export async function sweepClass(name: string, hands: Hands): Promise<void> {
  if (!hands.world.isSynced()) return;
  for (const child of hands.world.childrenOfClass(classLabelValue(name))) {
    if (hands.world.serves(child.name)) continue;
    await deleteChild(hands.api, child);
    hands.world.deleted(child);
  }
}
