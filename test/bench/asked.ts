// What the benches ask for, and a policy that lets it pass.

/** What the target answers like /small, and a policy reads as a list of a resource. */
export const listPath = "/api/v1/namespaces/team-a/configmaps";

/** As an admin would write them; what the benches ask for passes by the last one. */
export const rules = [
  { apiGroups: ["apps"], resources: ["deployments", "deployments/scale"], verbs: ["*"], namespaces: ["web"] },
  { apiGroups: ["batch"], resources: ["jobs"], verbs: ["*"], namespaces: ["web"] },
  { apiGroups: [""], resources: ["pods/exec"], verbs: ["create"], namespaces: ["web"] },
  { apiGroups: [""], resources: ["secrets"], verbs: ["get", "list", "watch"], effect: "MetadataOnly" },
  {
    apiGroups: [""],
    resources: ["pods", "pods/log", "configmaps", "serviceaccounts"],
    verbs: ["get", "list", "watch"],
  },
  { nonResourceURLs: ["/api/*", "/apis/*", "/openapi/*", "/version", "/small", "/big"], verbs: ["get"] },
];
