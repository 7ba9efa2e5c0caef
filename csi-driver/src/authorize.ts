import { type ApiServer, Fault, group, serviceAccountGroups, serviceAccountUser } from "@kube-connector/core";

export interface Question {
  pod: { namespace: string; serviceAccount: string };
  connector: { namespace: string; name: string };
}

/** Ends when the pod's ServiceAccount may use the Connector; else a Fault that names the missing grant. */
export type Authorize = (question: Question) => Promise<void>;

/** Asks the API server with a SubjectAccessReview. Pods that ask the same at once share one review. */
export function createAuthorize(api: ApiServer, timeout = 5000): Authorize {
  const inFlight = new Map<string, Promise<boolean>>();
  return async ({ pod, connector }) => {
    const user = serviceAccountUser(pod.namespace, pod.serviceAccount);
    const key = `${user} ${connector.namespace}/${connector.name}`;
    let review = inFlight.get(key);
    if (review === undefined) {
      review = ask(api, { user, groups: serviceAccountGroups(pod.namespace), connector, timeout });
      const forget = () => inFlight.delete(key);
      inFlight.set(key, review);
      review.then(forget, forget);
    }
    if (await review) return;
    const { namespace, name } = connector;
    throw new Fault(
      "permission_denied",
      `ServiceAccount ${pod.namespace}/${pod.serviceAccount} may not use the Connector ${namespace}/${name}; it needs a Role in namespace ${namespace} with verb "use" on connectors.${group}, resourceNames ["${name}"], and a RoleBinding`,
    );
  };
}

async function ask(
  api: ApiServer,
  who: { user: string; groups: string[]; connector: Question["connector"]; timeout: number },
): Promise<boolean> {
  try {
    const answer = await api.request<{ status?: { allowed?: unknown } } | undefined>(
      "POST",
      "/apis/authorization.k8s.io/v1/subjectaccessreviews",
      {
        timeout: who.timeout,
        body: {
          apiVersion: "authorization.k8s.io/v1",
          kind: "SubjectAccessReview",
          spec: {
            user: who.user,
            groups: who.groups,
            resourceAttributes: { ...who.connector, verb: "use", group, resource: "connectors" },
          },
        },
      },
    );
    return answer?.status?.allowed === true;
  } catch (error) {
    // Even a refusal says nothing about the pod: it is the driver's own right to ask that is missing then.
    const said = error instanceof Fault ? `: ${error.message.slice(0, 500)}` : "";
    throw new Fault("unavailable", `Cannot ask the API server whether the pod may use the Connector${said}`, error);
  }
}
