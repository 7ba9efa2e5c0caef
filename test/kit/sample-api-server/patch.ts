import { fieldsOf } from "./kinds.ts";
import { badRequest } from "./refusal.ts";

// The patches that kubectl sends. Merge patch is RFC 7386, JSON patch RFC 6902. A strategic merge patch is done for the
// lists of the kinds that this server knows. Server-side apply is a strategic merge of what is applied, without field
// ownership: nothing is taken away that an earlier apply had set, and no conflict is ever found.

type Fields = Record<string, unknown>;

const isMap = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);

/** Lists whose items are told apart by a key; every other list is replaced whole. */
const mergeKeys: Record<string, string> = {
  containers: "name",
  initContainers: "name",
  ephemeralContainers: "name",
  volumes: "name",
  env: "name",
  volumeMounts: "mountPath",
  ports: "containerPort",
  conditions: "type",
  ownerReferences: "uid",
};

export function applyPatch(before: Fields, contentType: string, patch: unknown): Fields {
  switch (contentType) {
    case "application/merge-patch+json":
      return fieldsOf(merge(before, patch, false));
    case "application/strategic-merge-patch+json":
    case "application/apply-patch+yaml":
      return fieldsOf(merge(before, patch, true));
    case "application/json-patch+json":
      return jsonPatch(before, patch);
    default:
      throw badRequest(`a patch of type ${contentType} is not known here`);
  }
}

function merge(before: unknown, patch: unknown, strategic: boolean): unknown {
  if (!isMap(patch)) return patch;
  const after: Fields = isMap(before) && patch.$patch !== "replace" ? { ...before } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (strategic && key.startsWith("$")) continue;
    if (value === null) delete after[key];
    else if (strategic && Array.isArray(value)) after[key] = mergeList(after[key], value, mergeKeys[key]);
    else after[key] = merge(after[key], value, strategic);
  }
  return after;
}

function mergeList(before: unknown, patch: readonly unknown[], key: string | undefined): unknown[] {
  if (key === undefined || !Array.isArray(before)) return patch.filter((item) => fieldsOf(item).$patch === undefined);
  const after = [...(before as unknown[])];
  for (const item of patch) {
    const { $patch: directive, ...rest } = fieldsOf(item);
    const at = after.findIndex((one) => fieldsOf(one)[key] === rest[key]);
    if (directive === "delete") after.splice(at, at < 0 ? 0 : 1);
    else if (at < 0) after.push(rest);
    else after[at] = merge(after[at], rest, true);
  }
  return after;
}

function jsonPatch(before: Fields, patch: unknown): Fields {
  if (!Array.isArray(patch)) throw badRequest("a JSON patch should be a list of operations");
  const after = structuredClone(before);
  for (const step of patch as unknown[]) {
    const { op, path, value } = fieldsOf(step);
    const parts = String(path)
      .split("/")
      .slice(1)
      .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = parts.pop();
    let parent: unknown = after;
    for (const part of parts) parent = (parent as Fields | undefined)?.[part];
    if (last === undefined || typeof parent !== "object" || parent === null) {
      throw badRequest(`the JSON patch names ${String(path)}, which is not there`);
    }
    if (op === "test") {
      if (JSON.stringify((parent as Fields)[last]) !== JSON.stringify(value)) {
        throw badRequest(`the JSON patch's test of ${String(path)} does not hold`);
      }
    } else if (op === "remove") {
      if (Array.isArray(parent)) parent.splice(Number(last), 1);
      else delete (parent as Fields)[last];
    } else if (op === "add" && Array.isArray(parent)) {
      parent.splice(last === "-" ? parent.length : Number(last), 0, value);
    } else if (op === "add" || op === "replace") {
      (parent as Fields)[last] = value;
    } else throw badRequest(`the JSON patch's operation ${String(op)} is not known here`);
  }
  return after;
}
