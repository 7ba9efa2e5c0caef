import type { RequestInfo } from "./request-info.ts";

// The presets of spec.policy. Each is a question about one request; what is not named here is a no.

/** Subresources that run, open or issue something; what else a GET of theirs may mean is not for us to guess. */
const neverRead = new Set(["exec", "attach", "portforward", "proxy", "token", "eviction", "binding"]);

/** Reads everything but Secrets and what runs, tunnels or reaches through. */
export function readOnly(info: RequestInfo): boolean {
  if (!info.isResource || isSelfReview(info)) return isOrientation(info);
  if (info.verb !== "get" && info.verb !== "list" && info.verb !== "watch") return false;
  if (info.resource === "secrets") return false;
  if (neverRead.has(info.subresource)) return false;
  // nodes/log, nodes/metrics, nodes/configz and others reach the kubelet.
  return info.resource !== "nodes" || info.subresource === "" || info.subresource === "status";
}

const jobRules: readonly { group: string; resource: string; verbs: readonly string[] }[] = [
  { group: "batch", resource: "jobs", verbs: ["create", "get", "list", "watch", "patch", "delete"] },
  { group: "batch", resource: "jobs/status", verbs: ["get"] },
  { group: "batch", resource: "cronjobs", verbs: ["get", "list"] },
  { group: "", resource: "pods", verbs: ["get", "list", "watch"] },
  { group: "", resource: "pods/log", verbs: ["get"] },
  { group: "", resource: "events", verbs: ["list", "watch"] },
  { group: "events.k8s.io", resource: "events", verbs: ["list", "watch"] },
];

/** Runs Jobs and follows them to their end. */
export function jobRunner(info: RequestInfo): boolean {
  if (!info.isResource || isSelfReview(info)) return isOrientation(info);
  const resource = info.subresource === "" ? info.resource : `${info.resource}/${info.subresource}`;
  return jobRules.some(
    (rule) => rule.group === info.apiGroup && rule.resource === resource && rule.verbs.includes(info.verb),
  );
}

/** What every client does to find its way: discovery, the version, health, and "may I?". */
function isOrientation(info: RequestInfo): boolean {
  if (info.isResource) return isSelfReview(info);
  if (info.verb !== "get" && info.verb !== "head") return false;
  return /^\/(api|apis|openapi|version|healthz|livez|readyz)(\/|$)/.test(info.path);
}

function isSelfReview({ verb, apiGroup, resource, subresource }: RequestInfo): boolean {
  if (verb !== "create" || subresource !== "") return false;
  return apiGroup === "authorization.k8s.io"
    ? resource === "selfsubjectaccessreviews" || resource === "selfsubjectrulesreviews"
    : apiGroup === "authentication.k8s.io" && resource === "selfsubjectreviews";
}
