import { fieldsOf } from "./kinds.ts";

/** The user that the bearer token stands for. */
export const sampleUser = "sample-admin";

/** The answer to a self-review, undefined for any other path. */
export function review(path: string, sent: unknown): unknown {
  const spec = fieldsOf(fieldsOf(sent).spec);
  switch (path) {
    case "/apis/authentication.k8s.io/v1/selfsubjectreviews":
      return {
        kind: "SelfSubjectReview",
        apiVersion: "authentication.k8s.io/v1",
        metadata: {},
        status: { userInfo: { username: sampleUser, uid: "1", groups: ["system:authenticated"] } },
      };
    case "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
      return {
        kind: "SelfSubjectAccessReview",
        apiVersion: "authorization.k8s.io/v1",
        metadata: {},
        spec,
        status: { allowed: true },
      };
    case "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews":
      return {
        kind: "SelfSubjectRulesReview",
        apiVersion: "authorization.k8s.io/v1",
        metadata: {},
        spec,
        status: {
          resourceRules: [{ verbs: ["*"], apiGroups: ["*"], resources: ["*"] }],
          nonResourceRules: [{ verbs: ["*"], nonResourceURLs: ["*"] }],
          incomplete: false,
        },
      };
    default:
      return undefined;
  }
}
