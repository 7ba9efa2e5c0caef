import * as z from "zod";
import { limitsSchema } from "./limits.ts";
import { bearerTokenSecretType, serviceAccountSecretType } from "./names.ts";
import { policySchema } from "./policy.ts";

// The schema of the two resources, once: types, checks and the CRD YAML (scripts/generate.ts) all come from here. The
// descriptions are what `kubectl explain` prints.

/** A CEL rule of the CRD with the sentence that a user reads when it does not hold. */
function rule(rule: string, message: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return { rule, message, ...more };
}

const objectMeta = z.looseObject({
  name: z.string(),
  namespace: z.string().optional(),
  uid: z.string().optional(),
  resourceVersion: z.string().optional(),
  generation: z.number().optional(),
  creationTimestamp: z.string().optional(),
  deletionTimestamp: z.string().optional(),
  labels: z.record(z.string(), z.string()).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});

/** As in metav1.Condition. */
export const conditionSchema = z.object({
  type: z.string().max(316).describe("What is judged, for example SecretReady."),
  status: z.enum(["True", "False", "Unknown"]).describe("True when it holds."),
  reason: z.string().max(1024).describe("One word for why, for programs."),
  message: z.string().max(32_768).describe("A sentence for people: what is wrong and what to change."),
  lastTransitionTime: z.string().meta({ format: "date-time", description: "When status last changed." }),
  observedGeneration: z.int().min(0).optional().describe("The metadata.generation that was judged."),
});
export type Condition = z.infer<typeof conditionSchema>;

export const connectorSpecSchema = z
  .strictObject({
    connectorClassName: z
      .string()
      .min(1)
      .max(253)
      .meta({
        description:
          "The ConnectorClass that says how this connector works. The class k8s is installed with the product.",
        "x-kubernetes-validations": [
          rule("self == oldSelf", "connectorClassName cannot be changed; delete the Connector and create it anew"),
        ],
      }),
    address: z
      .string()
      .min(1)
      .max(2048)
      .meta({
        description:
          "Where the target's API server is: https://HOST[:PORT][/PREFIX]. HOST is a DNS name or an IP; PREFIX is part of every path that is sent there.",
        "x-kubernetes-validations": [
          rule("self.startsWith('https://')", "address should begin with https://"),
          rule(
            "!self.matches('^https://[^/]*@')",
            "address should have no user or password; the token goes into the Secret",
          ),
          rule("!self.contains('?') && !self.contains('#')", "address should have no query and no fragment"),
          rule("isURL(self) && url(self).getHostname() != ''", "address should be https://HOST[:PORT][/PREFIX]"),
        ],
      }),
    tls: z
      .strictObject({
        caBundle: z.string().max(1_048_576).optional().meta({
          format: "byte",
          description:
            "The PEM certificates that the target's certificate is verified with, base64. Without it the Secret's ca.crt is used, without that the system roots.",
        }),
        serverName: z
          .string()
          .min(1)
          .max(253)
          .optional()
          .meta({
            description:
              "The name to verify in the target's certificate, and to send as SNI, instead of the address's host.",
            "x-kubernetes-validations": [
              rule(
                "self.matches('^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$')",
                "serverName should be a DNS name or an IP address",
              ),
            ],
          }),
        insecureSkipVerify: z
          .boolean()
          .optional()
          .describe(
            "true: the target's certificate is not verified, so whoever answers at the address receives the token. For experiments only.",
          ),
      })
      .optional()
      .describe("How the target's certificate is verified."),
    auth: z
      .strictObject({
        name: z.enum(["bearerTokenAuth"]).describe("The way to authenticate, one that the class lists."),
        secretRef: z
          .strictObject({
            name: z.string().min(1).max(253).describe("The name of the Secret, in the Connector's namespace."),
          })
          .describe(
            `The Secret with the target's token: of type ${bearerTokenSecretType} (token, optional ca.crt, optional addresses) or ${serviceAccountSecretType}.`,
          ),
      })
      .describe("The credential for the target. It stays with the proxy."),
    access: z
      .strictObject({
        sameNamespace: z.enum(["Allow", "RequireGrant"]).optional().meta({
          default: "Allow",
          description:
            "Allow: pods of the Connector's namespace may use it without a grant. RequireGrant: they need one like all others.",
        }),
      })
      .optional()
      .describe("Who may use the connector. All others need the verb use on it, by RBAC."),
    policy: policySchema.optional(),
    limits: limitsSchema
      .optional()
      .describe("How much one caller, a pod, may ask of each proxy; what is not said here is as in the class."),
  })
  .describe("What the admin wants.");

const statusSchema = z
  .object({
    observedGeneration: z.int().min(0).optional().describe("The metadata.generation that this status is about."),
    conditions: z
      .array(conditionSchema)
      .optional()
      .meta({
        description:
          "ConnectorClassReady, SecretReady, LivenessReady, AuthReady, ProxyServiceReady, and Ready for all of them.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
      }),
    proxy: z
      .object({
        httpAddress: z
          .object({ url: z.string() })
          .optional()
          .describe("The forward proxy, the proxy-url of a kubeconfig."),
        httpsAddress: z
          .object({ url: z.string() })
          .optional()
          .describe("The reverse proxy, for clients that ignore proxy-url."),
        caBundle: z.string().optional().meta({
          format: "byte",
          description: "The CA of the proxy's certificate, PEM in base64; two while it rotates. Public.",
        }),
      })
      .optional()
      .describe("How clients reach the proxy."),
    target: z
      .object({
        version: z.string().optional().describe("The target's Kubernetes version."),
        lastProbeTime: z
          .string()
          .optional()
          .meta({ format: "date-time", description: "When the target was last asked." }),
      })
      .optional()
      .describe("What was seen of the target."),
    credential: z
      .object({
        expiresAt: z
          .string()
          .optional()
          .meta({ format: "date-time", description: "When the stored token expires, if it is a JWT that says so." }),
      })
      .optional()
      .describe("What is known of the stored token; never the token."),
  })
  .describe("What the controller has seen and done.");
export type ConnectorStatus = z.infer<typeof statusSchema>;

export const connectorSchema = z.object({
  apiVersion: z.string().optional(),
  kind: z.string().optional(),
  metadata: objectMeta,
  spec: connectorSpecSchema,
  status: statusSchema.optional(),
});
export type Connector = z.infer<typeof connectorSchema>;
export type ConnectorSpec = z.infer<typeof connectorSpecSchema>;

const duration = (text: string, byDefault: string) =>
  z
    .string()
    .regex(/^[0-9]{1,6}(ms|s|m|h)$/)
    .optional()
    .meta({ default: byDefault, description: text });

const probePath = (byDefault: string, text: string) =>
  z
    .strictObject({
      path: z
        .string()
        .regex(/^\/[A-Za-z0-9._~/-]*$/)
        .max(256)
        .optional()
        .meta({ default: byDefault, description: "The path below the address's prefix." }),
    })
    .optional()
    .describe(text);

export const connectorClassSpecSchema = z
  .strictObject({
    type: z.enum(["Kubernetes"]).describe("What the target is."),
    auth: z
      .array(
        z.strictObject({
          name: z.enum(["bearerTokenAuth"]).describe("The name that spec.auth.name of a Connector gives."),
          secretType: z.string().min(1).max(253).describe("The type that the Secret must have."),
        }),
      )
      .min(1)
      .max(8)
      .describe("The ways to authenticate."),
    probes: z
      .strictObject({
        liveness: probePath("/livez", "Asked to see that the target is alive."),
        auth: probePath("/api", "Asked to see that the stored token is accepted."),
        interval: duration("Time between two rounds, for example 60s.", "60s"),
        timeout: duration("Most time for one request, for example 10s.", "10s"),
      })
      .optional()
      .describe("How the target is watched."),
    configurations: z
      .array(z.enum(["kubeconfig", "kubeconfig-direct"]))
      .max(8)
      .optional()
      .describe("The files that volumes of this class offer by configuration.names; for people and tools to read."),
    limits: limitsSchema
      .optional()
      .describe("How much one caller, a pod, may ask of each proxy of a connector, where the Connector does not say."),
    proxy: z
      .strictObject({
        placement: z.enum(["Dedicated", "Shared"]).optional().meta({
          default: "Dedicated",
          description: "Dedicated: a proxy Deployment for each Connector. Shared: one for all of the class.",
        }),
        replicas: z
          .int()
          .min(1)
          .max(100)
          .optional()
          .meta({ default: 1, description: "Pods of each proxy Deployment." }),
        resources: z.looseObject({}).optional().meta({
          description: "The proxy container's resources, as in a Pod.",
          "x-kubernetes-preserve-unknown-fields": true,
        }),
      })
      .optional()
      .describe("How proxies of this class run."),
  })
  .describe("How connectors of this class work.");

export const connectorClassSchema = z.object({
  apiVersion: z.string().optional(),
  kind: z.string().optional(),
  metadata: objectMeta,
  spec: connectorClassSpecSchema,
});
export type ConnectorClass = z.infer<typeof connectorClassSchema>;
export type ConnectorClassSpec = z.infer<typeof connectorClassSpecSchema>;

/** Each way in which an object does not fit, as a sentence with the field's path. */
export function schemaProblems(error: z.ZodError): string[] {
  return error.issues.map((issue) => {
    const path = issue.path.join(".");
    return path === "" ? issue.message : `${path}: ${issue.message}`;
  });
}

/** The condition types in their order; Ready is last. */
export const conditionTypes = [
  "ConnectorClassReady",
  "SecretReady",
  "LivenessReady",
  "AuthReady",
  "ProxyServiceReady",
  "Ready",
] as const;
export type ConditionType = (typeof conditionTypes)[number];

/** The condition of that type, if the status has it. */
export function findCondition(status: ConnectorStatus | undefined, type: ConditionType): Condition | undefined {
  return status?.conditions?.find((condition) => condition.type === type);
}
