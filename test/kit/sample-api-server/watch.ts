import type { IncomingMessage, ServerResponse } from "node:http";
import type { KubeObject } from "@kube-connector/core";
import { refusalStatus } from "./answers.ts";
import { Refusal } from "./refusal.ts";
import { type Kind, tableOf } from "./kinds.ts";
import { createSelector } from "./selectors.ts";
import type { Store, StoreEvent } from "./store.ts";

/** How a client wants to see objects. */
export type View = "objects" | "table";

export interface WatchRequest {
  kind: Kind;
  namespace: string | undefined;
  query: URLSearchParams;
  view: View;
}

/** Sends changes as lines of JSON until the client goes, `timeoutSeconds` is over or the server closes the response. */
export function answerWatch(
  request: IncomingMessage,
  response: ServerResponse,
  { store, watch, bookmarkInterval }: { store: Store; watch: WatchRequest; bookmarkInterval: number },
): void {
  const { kind, namespace, query, view } = watch;
  const selected = createSelector(query);
  const from = query.get("resourceVersion") ?? "";
  const sendInitial = query.get("sendInitialEvents") === "true" || from === "" || from === "0";
  const missed = sendInitial ? [] : store.since(Number(from));
  response.writeHead(200, { "content-type": "application/json" });
  response.flushHeaders();

  let first = true;
  const show = (object: KubeObject) => {
    if (view === "objects") return object;
    const options = { resourceVersion: "", withColumns: first, withObject: wantsObject(query), now: Date.now() };
    first = false;
    return tableOf(kind, [object], options);
  };
  const write = (type: string, object: unknown) => response.write(`${JSON.stringify({ type, object })}\n`);
  const bookmark = (annotations?: Record<string, string>) => {
    if (query.get("allowWatchBookmarks") !== "true") return;
    const metadata = {
      resourceVersion: String(store.version()),
      ...(annotations === undefined ? {} : { annotations }),
    };
    write("BOOKMARK", { kind: kind.kind, apiVersion: "v1", metadata });
  };
  const before = new Set<string>();
  const change = ({ type, object, resource }: StoreEvent) => {
    if (resource !== kind.resource) return;
    if (namespace !== undefined && object.metadata.namespace !== namespace) return;
    const key = `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
    // An object that a change takes out of the selection is gone, for this watch.
    const now = type !== "DELETED" && selected(object);
    if (now) write(before.has(key) || type === "MODIFIED" ? "MODIFIED" : "ADDED", show(object));
    else if (before.has(key) || (type === "DELETED" && selected(object))) write("DELETED", show(object));
    if (now) before.add(key);
    else before.delete(key);
  };

  if (missed === undefined) {
    const expired = new Refusal(410, "Expired", `too old resource version: ${from} (${store.version()})`);
    write("ERROR", refusalStatus(expired));
    response.end();
    return;
  }
  if (sendInitial) {
    for (const object of store.list(kind, namespace).filter(selected)) {
      before.add(`${object.metadata.namespace ?? ""}/${object.metadata.name}`);
      write("ADDED", show(object));
    }
    bookmark({ "k8s.io/initial-events-end": "true" });
  }
  for (const event of missed) change(event);
  const unsubscribe = store.subscribe(change);
  const bookmarks = setInterval(() => bookmark(), bookmarkInterval);
  const seconds = Number(query.get("timeoutSeconds") ?? 0);
  const end = setTimeout(() => response.end(), (seconds > 0 ? seconds : 1800) * 1000);
  response.once("close", () => {
    unsubscribe();
    clearInterval(bookmarks);
    clearTimeout(end);
  });
  request.on("error", () => response.destroy());
}

/** Whether the rows of a Table should carry whole objects, as kubectl asks for with --sort-by. */
export const wantsObject = (query: URLSearchParams): boolean => query.get("includeObject") === "Object";
