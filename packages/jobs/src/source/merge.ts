import { pointer } from "../definition/sentences.ts";

// A JSON merge patch (RFC 7386) that knows lists of things with names, and the list of what differs between two values.

/** null removes; objects are merged; lists whose items all have a key are merged by it, other lists are replaced. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (Array.isArray(patch)) return mergeList(target, patch);
  if (!isObject(patch)) return patch;
  const merged = new Map(isObject(target) ? Object.entries(target) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), value));
  }
  return Object.fromEntries(merged);
}

function mergeList(target: unknown, patch: readonly unknown[]): unknown[] {
  const list = Array.isArray(target) ? (target as unknown[]) : [];
  // One volume may be mounted at two paths, so its mounts are told apart by the path, as kubectl does.
  const key = ["mountPath", "name"].find((field) =>
    [...list, ...patch].every((item) => isObject(item) && typeof item[field] === "string"),
  );
  if (key === undefined) return patch.map((item) => mergePatch(undefined, item));
  const nameOf = (item: unknown) => (item as Record<string, unknown>)[key];
  const changes = new Map(patch.map((item) => [nameOf(item), item]));
  const kept = list.map((item) => (changes.has(nameOf(item)) ? mergePatch(item, changes.get(nameOf(item))) : item));
  const names = new Set(list.map(nameOf));
  const added = [...changes].filter(([name]) => !names.has(name)).map(([, item]) => mergePatch(undefined, item));
  return [...kept, ...added];
}

export interface Difference {
  /** A JSON pointer. */
  path: string;
  /** Absent: it is added. */
  before?: unknown;
  /** Absent: it is removed. */
  after?: unknown;
}

/** What differs, leaf by leaf in the order of `after`; what is only in one is given whole. */
export function differences(before: unknown, after: unknown, path = ""): Difference[] {
  if (Array.isArray(before) && Array.isArray(after))
    return differences(Object.fromEntries(before.entries()), Object.fromEntries(after.entries()), path);
  if (!isObject(before) || !isObject(after))
    return JSON.stringify(before) === JSON.stringify(after)
      ? []
      : [{ path, ...(before === undefined ? {} : { before }), ...(after === undefined ? {} : { after }) }];
  return [...new Set([...Object.keys(after), ...Object.keys(before)])].flatMap((key) =>
    differences(before[key], after[key], `${path}${pointer([key])}`),
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
