import { type Kind, kinds } from "./kinds.ts";

// What a client asks before its first request: groups, resources, version, and enough OpenAPI for kubectl to leave the
// validation of a manifest to the server.

const coreVersion = { groupVersion: "v1", version: "v1" };
const verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

const reviewGroups: Record<string, { name: string; kind: string }[]> = {
  "authentication.k8s.io": [{ name: "selfsubjectreviews", kind: "SelfSubjectReview" }],
  "authorization.k8s.io": [
    { name: "selfsubjectaccessreviews", kind: "SelfSubjectAccessReview" },
    { name: "selfsubjectrulesreviews", kind: "SelfSubjectRulesReview" },
  ],
};

/** The answer to a discovery path, undefined for any other. */
export function discover(path: string): unknown {
  const group = /^\/apis\/([a-z0-9.]+)\/v1$/.exec(path)?.[1];
  const reviews = group === undefined ? undefined : reviewGroups[group];
  if (reviews !== undefined) {
    return resourceList(
      `${group}/v1`,
      reviews.map((review) => ({ ...review, singularName: "", namespaced: false, verbs: ["create"] })),
    );
  }
  switch (path) {
    case "/api":
      return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] };
    case "/apis":
      return { kind: "APIGroupList", apiVersion: "v1", groups: Object.keys(reviewGroups).map(groupOf) };
    case "/api/v1":
      return resourceList(coreVersion.groupVersion, kinds.flatMap(resourcesOf));
    case "/version":
      return {
        major: "1",
        minor: "35",
        gitVersion: "v1.35.0-sample",
        gitCommit: "",
        gitTreeState: "clean",
        buildDate: "2025-12-17T00:00:00Z",
        goVersion: "none",
        compiler: "none",
        platform: "linux/amd64",
      };
    case "/openapi/v3":
      return { paths: { "api/v1": { serverRelativeURL: "/openapi/v3/api/v1" } } };
    case "/openapi/v3/api/v1":
      return openApi();
    default:
      return undefined;
  }
}

const groupOf = (name: string) => ({
  name,
  versions: [{ groupVersion: `${name}/v1`, version: "v1" }],
  preferredVersion: { groupVersion: `${name}/v1`, version: "v1" },
});

const resourceList = (groupVersion: string, resources: unknown[]) => ({
  kind: "APIResourceList",
  apiVersion: "v1",
  groupVersion,
  resources,
});

function resourcesOf(kind: Kind): unknown[] {
  const main = {
    name: kind.resource,
    singularName: kind.singular,
    namespaced: kind.namespaced,
    kind: kind.kind,
    verbs,
    shortNames: kind.shortNames,
    ...(kind.categories === undefined ? {} : { categories: kind.categories }),
  };
  if (kind.kind !== "Pod") return [main];
  const subresource = (name: string, of: string, subVerbs: string[]) => ({
    name: `pods/${name}`,
    singularName: "",
    namespaced: true,
    kind: of,
    verbs: subVerbs,
  });
  return [main, subresource("log", "Pod", ["get"]), subresource("exec", "PodExecOptions", ["create", "get"])];
}

/** kubectl looks for the parameter fieldValidation of PATCH: with it, the server is asked to validate. */
function openApi(): unknown {
  const operation = (kind: Kind) => ({
    operationId: `patchCoreV1${kind.kind}`,
    parameters: [
      { name: "fieldValidation", in: "query", schema: { type: "string", uniqueItems: true } },
      { name: "dryRun", in: "query", schema: { type: "string", uniqueItems: true } },
    ],
    responses: { 200: { description: "OK" } },
    "x-kubernetes-action": "patch",
    "x-kubernetes-group-version-kind": { group: "", version: "v1", kind: kind.kind },
  });
  const pathOf = (kind: Kind) => `/api/v1/${kind.namespaced ? "namespaces/{namespace}/" : ""}${kind.resource}/{name}`;
  return {
    openapi: "3.0.0",
    info: { title: "Sample API server", version: "v1" },
    paths: Object.fromEntries(kinds.map((kind) => [pathOf(kind), { patch: operation(kind) }])),
    components: { schemas: {} },
  };
}
