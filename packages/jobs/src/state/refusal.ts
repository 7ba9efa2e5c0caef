import type { Diagnosis } from "../run.ts";

/**
 * What an API server says when it does not take a Job, or its controller's pods → why, and what to change. For the answer to
 * our POST, and for the event FailedCreate of a Job.
 */
export function refusalOf(message: string, what: "pods" | "Job" = "pods"): Diagnosis {
  const found = refusals.find(({ words }) => words.test(message)) ?? {
    category: what === "Job" ? "Rejected" : "Denied",
    hint: "Change what the message names, or ask the admin of the cluster.",
  };
  return { category: found.category, message: `The cluster does not take the ${what}: ${message}`, hint: found.hint };
}

/** Whether the refusal is a quota's, so that the same may be taken later. */
export function isQuota(message: string): boolean {
  return /exceeded quota/.test(message);
}

interface Refusal {
  category: Diagnosis["category"];
  words: RegExp;
  hint: string;
}

const refusals: readonly Refusal[] = [
  {
    category: "Quota",
    words: /exceeded quota/,
    hint: "It goes on when other pods of the namespace end; ask less, lower parallelism, or ask for a larger ResourceQuota.",
  },
  {
    category: "Quota",
    words: /failed quota: .*must specify/,
    hint: "The namespace has a ResourceQuota, so give the resources that the message names: requests and limits.",
  },
  {
    category: "Denied",
    words: /violates PodSecurity/,
    hint: "Set by patch what the message names in securityContext, or run in a namespace of a lower Pod Security level.",
  },
  {
    category: "Denied",
    words: /failed calling webhook/,
    hint: "The webhook does not answer; an admin of the cluster should look at its service.",
  },
  {
    category: "Denied",
    words: /admission webhook .* denied|ValidatingAdmissionPolicy .* denied/,
    hint: "A policy of the cluster forbids it: change what the message names, or ask the admin who set the policy.",
  },
  {
    category: "Denied",
    words: /(maximum|minimum) .* usage per|must be less than or equal to/,
    hint: "The namespace has a LimitRange: bring resources within what the message names.",
  },
  {
    category: "ConfigMissing",
    words: /error looking up service account|serviceaccounts? "[^"]*" not found/,
    hint: "Create that service account in the run's namespace, or correct serviceAccountName.",
  },
];
