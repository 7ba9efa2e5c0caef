import * as z from "zod";

// What callers of a connector may ask of its target: a preset, or rules in the words of RBAC. The same schema checks the
// Connector, what is written for the proxy, and what the proxy reads.

const list = (most: number, length: number, pattern: RegExp) =>
  z.array(z.string().max(length).regex(pattern)).max(most);

/** What an API server says when a CEL rule does not hold; standalone and the proxy say the same by the refinements. */
const sentences = {
  either: "policy should have either preset or rules",
  scope:
    "a rule should have resources with apiGroups, or nonResourceURLs alone (no apiGroups, resources, resourceNames, namespaces)",
  metadata:
    "a rule with effect MetadataOnly should name resources without a subresource, and only the verbs get, list and watch",
  core: 'the core API group is "" in apiGroups, not "core" or "v1"',
} as const;

const readVerbs = ["get", "list", "watch"];

function hasOneScope(rule: z.infer<typeof ruleShape>): boolean {
  const { apiGroups, resources, resourceNames, namespaces, nonResourceURLs } = rule;
  if (nonResourceURLs === undefined) return apiGroups !== undefined && resources !== undefined;
  return [apiGroups, resources, resourceNames, namespaces].every((one) => one === undefined);
}

function isReadable(rule: z.infer<typeof ruleShape>): boolean {
  if (rule.effect !== "MetadataOnly") return true;
  return (
    rule.resources?.every((resource) => !resource.includes("/")) === true &&
    rule.verbs.every((verb) => readVerbs.includes(verb))
  );
}

const ruleShape = z.strictObject({
  verbs: z
    .array(
      z
        .string()
        .max(64)
        .regex(/^(\*|[a-z]+)$/),
    )
    .min(1)
    .max(32)
    .describe("Verbs as in RBAC (get, list, watch, create, update, patch, delete, deletecollection), or *."),
  apiGroups: list(64, 253, /^(\*|[a-z0-9.-]*)$/)
    .optional()
    .describe('API groups; "" is the core group, * all.'),
  resources: list(64, 253, /^(\*|[a-z0-9.-]+)(\/[A-Za-z0-9.-]+)?$/)
    .optional()
    .describe("Resources, resource/subresource, */subresource, or * for all."),
  resourceNames: list(256, 253, /^[^/%]+$/)
    .min(1)
    .optional()
    .describe("Only objects of these names. Absent: all. No list matches but one for a single name."),
  namespaces: list(256, 63, /^[a-z0-9-]+$/)
    .min(1)
    .optional()
    .describe(
      "Only in these namespaces. Absent: all. A list over all namespaces and cluster-wide objects never match.",
    ),
  nonResourceURLs: z
    .array(
      z
        .string()
        .max(253)
        .regex(/^(\*|\/[^*]*\*?)$/),
    )
    .max(64)
    .optional()
    .describe("Paths that are no resources, such as /version; a * at the end stands for any rest."),
  effect: z.enum(["Allow", "MetadataOnly"]).optional().meta({
    default: "Allow",
    description:
      "MetadataOnly: get, list and watch are answered with the objects' metadata alone, whatever other rules say.",
  }),
});

const ruleSchema = ruleShape
  .refine(hasOneScope, { error: sentences.scope })
  .refine(isReadable, { error: sentences.metadata })
  .refine(({ apiGroups }) => apiGroups?.some((one) => one === "core" || one === "v1") !== true, {
    error: sentences.core,
  })
  .meta({
    "x-kubernetes-validations": [
      {
        rule: "has(self.nonResourceURLs) ? !has(self.apiGroups) && !has(self.resources) && !has(self.resourceNames) && !has(self.namespaces) : has(self.apiGroups) && has(self.resources)",
        message: sentences.scope,
      },
      {
        rule: "!has(self.effect) || self.effect != 'MetadataOnly' || (has(self.resources) && self.resources.all(r, !r.contains('/')) && self.verbs.all(v, v in ['get', 'list', 'watch']))",
        message: sentences.metadata,
      },
      { rule: "!has(self.apiGroups) || !self.apiGroups.exists(g, g == 'core' || g == 'v1')", message: sentences.core },
    ],
  });

/** RBAC's PolicyRule, with namespaces and an effect. */
export type PolicyRule = z.infer<typeof ruleSchema>;

export const policySchema = z
  .strictObject({
    preset: z
      .enum(["Full", "ReadOnly", "JobRunner"])
      .optional()
      .describe(
        "Full: everything. ReadOnly: get, list and watch, but no Secrets, no exec, no proxy. JobRunner: run Jobs, follow their pods and logs.",
      ),
    rules: z
      .array(ruleSchema)
      .max(64)
      .optional()
      .meta({ description: "What is allowed, in place of a preset. A request that no rule matches is refused." }),
    mode: z.enum(["Enforce", "Warn"]).optional().meta({
      default: "Enforce",
      description:
        "Warn: nothing is refused or reduced; what would have been is answered with a Warning, logged and counted.",
    }),
  })
  .refine(({ preset, rules }) => (preset === undefined) !== (rules === undefined), { error: sentences.either })
  .meta({
    description: "What callers may ask of the target. Absent: everything that the stored token may.",
    "x-kubernetes-validations": [{ rule: "has(self.preset) != has(self.rules)", message: sentences.either }],
  });
export type Policy = z.infer<typeof policySchema>;
