import { Refusal } from "./answers.ts";

// What a request asks for, as kube-apiserver reads it: k8s.io/apiserver pkg/endpoints/request/requestinfo.go, step by
// step. The API server authorises by that reading, so a rule that judged by another one could be walked round.

export interface RequestInfo {
  /** Whether it is for an API resource; else a plain path such as /version, or discovery. */
  isResource: boolean;
  /** Below the connector's prefix, decoded, without the query. */
  path: string;
  /** As RBAC names it: list, deletecollection, ... or the method in lower case when it is no resource. "" for OPTIONS. */
  verb: string;
  /** "" for the core group, and what follows for a request that has none. */
  apiGroup: string;
  apiVersion: string;
  namespace: string;
  resource: string;
  subresource: string;
  name: string;
}

/** How one method is called: by RBAC, and where the request is for no resource. */
const verbs = new Map([
  ["POST", { resource: "create", other: "post" }],
  ["GET", { resource: "get", other: "get" }],
  ["HEAD", { resource: "get", other: "head" }],
  ["PUT", { resource: "update", other: "put" }],
  ["PATCH", { resource: "patch", other: "patch" }],
  ["DELETE", { resource: "delete", other: "delete" }],
]);

/**
 * Method, path below the prefix (still escaped, as target.ts has let it through) and query (with its question mark) → what
 * is asked for. Refusal: 400 for what kube-apiserver would answer with an error, or could read in another way than we do.
 */
export function requestInfo(method: string, judged: string, query: string): RequestInfo {
  const path = judged.includes("%") ? decodeURIComponent(judged) : judged;
  const verb = verbs.get(method) ?? { resource: "", other: method.toLowerCase() };
  const info: RequestInfo = {
    isResource: false,
    path,
    verb: verb.other,
    apiGroup: "",
    apiVersion: "",
    namespace: "",
    resource: "",
    subresource: "",
    name: "",
  };
  const parts = segmentsOf(path);
  const grouped = parts[0] === "apis";
  if ((!grouped && parts[0] !== "api") || parts.length < (grouped ? 4 : 3)) return info;
  info.isResource = true;
  info.apiGroup = grouped ? (parts[1] ?? "") : "";
  info.apiVersion = parts[grouped ? 2 : 1] ?? "";
  let at = grouped ? 3 : 2;
  info.verb = verb.resource;
  const first = parts[at];
  // The verb stands in the path of these old forms: /api/v1/watch/pods.
  if (first === "watch" || first === "proxy") {
    at += 1;
    if (parts.length === at)
      throw new Refusal(400, `The path of the request cannot be used: no resource follows ${path}`);
    info.verb = first;
  }
  if (parts[at] === "namespaces" && parts.length > at + 1) {
    info.namespace = parts[at + 1] ?? "";
    const next = parts[at + 2];
    // What may follow namespaces/NAME and is not a resource in that namespace.
    if (next !== undefined && next !== "status" && next !== "finalize") at += 2;
  }
  info.resource = parts[at] ?? "";
  info.name = parts[at + 1] ?? "";
  if (info.verb !== "proxy") info.subresource = parts[at + 2] ?? "";
  if (info.name === "") forMany(info, query);
  return info;
}

/** What stands between the slashes of a path, without one at its beginning and one at its end. For each request, so without split(). */
function segmentsOf(path: string): string[] {
  let start = path.charCodeAt(0) === slash ? 1 : 0;
  const end = path.length > start && path.charCodeAt(path.length - 1) === slash ? path.length - 1 : path.length;
  const parts: string[] = [];
  for (let at = start; at < end; at += 1) {
    if (path.charCodeAt(at) !== slash) continue;
    parts.push(path.slice(start, at));
    start = at + 1;
  }
  parts.push(path.slice(start, end));
  return parts;
}

const slash = 0x2f;

/** A get without a name is a list or a watch, and its field selector may name one object; a delete is of a collection. */
function forMany(info: RequestInfo, query: string): void {
  if (info.verb === "delete") info.verb = "deletecollection";
  if (info.verb !== "get") return;
  info.verb = "list";
  if (query === "") return;
  const parameters = new URLSearchParams(query);
  const watch = parameters.get("watch");
  // Go compares without regard to case by Unicode's rules, in one place of two.
  if (watch !== null && /[^\x20-\x7e]/.test(watch)) throw badQuery("watch should be true or false");
  if (watch !== null && !/^(0|false)$/i.test(watch)) info.verb = "watch";
  const name = selectedName(parameters.get("fieldSelector") ?? "");
  if (name === undefined || name === "." || name === ".." || /[/%]/.test(name)) return;
  // One parameter that it cannot read makes the API server forget the name.
  for (const number of ["limit", "timeoutSeconds"]) {
    const text = parameters.get(number);
    if (text !== null && !/^[+-]?\d{1,18}$/.test(text)) throw badQuery(`${number} should be a whole number`);
  }
  if (!isPlainLabelSelector(parameters.get("labelSelector") ?? "")) {
    throw badQuery(
      "labelSelector cannot be read; beside a fieldSelector for one name it should be simple, or left out",
    );
  }
  info.name = name;
}

/** The name that `metadata.name=NAME` in a field selector asks for, as k8s.io/apimachinery pkg/fields finds it. */
function selectedName(selector: string): string | undefined {
  if (!selector.includes("metadata.name")) return undefined;
  if (/[^\x20-\x7e]/.test(selector)) throw badQuery("fieldSelector should be ASCII");
  // Split at commas that no backslash escapes; sorted, so that the order in which they come says nothing.
  const terms = selector.match(/(?:\\.|[^\\,]|\\$)+/g) ?? [];
  let found: string | undefined;
  for (const term of terms.sort()) {
    const parts = /^(.*?)(!=|==|=)(.*)$/.exec(term);
    const value = parts?.[3];
    if (parts === null || value === undefined || !/^(?:\\[\\,=]|[^\\,=])*$/.test(value)) return undefined;
    if (parts[1] === "metadata.name" && parts[2] !== "!=") found ??= value.replaceAll(/\\(.)/g, "$1");
  }
  return found;
}

const labelName = "[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?";
const labelPrefix = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?){0,60}";
const labelKey = `(?:${labelPrefix}/)?${labelName}`;
const labelTerm = `(?:!? *${labelKey}|${labelKey} *(?:==?|!=) *(?:${labelName})?|${labelKey} +(?:in|notin) +\\( *${labelName}(?: *, *${labelName})* *\\))`;
const labelSelector = new RegExp(`^ *${labelTerm}(?: *, *${labelTerm})* *$`);

/** Whether the API server surely can read it; what this does not know is rare. */
function isPlainLabelSelector(text: string): boolean {
  return (
    text === "" ||
    (text.length <= 1000 && text.split(",").every((one) => one.length <= 200) && labelSelector.test(text))
  );
}

function badQuery(what: string): Refusal {
  return new Refusal(400, `The query of the request cannot be used: ${what}`);
}
