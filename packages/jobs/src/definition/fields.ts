import * as z from "zod";
import { quantityPattern } from "./quantity.ts";
import { splitCommaList } from "./text.ts";

// The kinds of values in a definition. A message is the end of a sentence that begins with the field's JSON pointer.

const label = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
const int32 = 2_147_483_647;

export const dnsLabel = z.string().regex(new RegExp(`^${label}$`), {
  error: "should be a DNS label: at most 63 lower-case letters, digits and dashes, no dash at an end",
});

export const dnsName = z
  .string()
  .max(253)
  .regex(new RegExp(`^${label}(\\.${label})*$`), {
    error: "should be a DNS name: lower-case letters, digits, dashes and dots",
  });

/** A name of a variable that every supported Kubernetes takes. */
export const envName = z.string().regex(/^[-._a-zA-Z][-._a-zA-Z0-9]*$/, {
  error: "is not a name of an environment variable: letters, digits, _, - and ., no digit first",
});

/** Text that can reach a program: Linux ends arguments and variables at a zero byte. */
export const text = z.string().refine((value) => !value.includes("\0"), { error: "should have no zero byte" });

/** Text without blanks, not empty. */
export const word = z.string().regex(/^\S+$/, { error: "should be text without blanks" });

/** A list, or text with commas that becomes one. */
export const commaList = z.union(
  [
    z.array(text),
    text.transform((value, context) => {
      try {
        return splitCommaList(value);
      } catch (error) {
        context.addIssue({ code: "custom", message: (error as Error).message });
        return z.NEVER;
      }
    }),
  ],
  { error: "should be a list of texts, or one text with commas" },
);

export const count = (least: number, most = int32) => z.int().min(least).max(most);
export const seconds = (least: number) => count(least);

const quantity = z
  .union([z.string(), z.number()], { error: "should be a quantity such as 250m or 1Gi" })
  .transform(String)
  .refine((value) => quantityPattern.test(value), { error: "should be a quantity such as 250m or 1Gi" });

const resourceName = z.string().regex(/^(cpu|memory|ephemeral-storage|hugepages-[0-9]+[KMGT]i|[a-z0-9.-]+\/[\w.-]+)$/, {
  error: "is not a resource: cpu, memory, ephemeral-storage, hugepages-SIZE, or DOMAIN/NAME",
});
const quantities = z.record(resourceName, quantity);

export const resourcesSchema = z.strictObject({
  requests: quantities.optional().describe("What a node must have free."),
  limits: quantities.optional().describe("What the container may not exceed."),
});

const keyRef = z.strictObject({
  name: dnsName.describe("The object's name, in the Job's namespace."),
  key: z.string().regex(/^[-._a-zA-Z0-9]{1,253}$/, { error: "should be a key of a Secret or ConfigMap" }),
  optional: z.boolean().optional(),
});

/** Text that reaches the program as it is, or with $(NAME) expanded by the kubelet, or a reference as Kubernetes has it. */
export const envValueSchema = z.union(
  [
    text,
    z.strictObject({ value: text, expand: z.boolean().describe("true: $(NAME) is expanded, $$ is a dollar.") }),
    z.strictObject({ secretKeyRef: keyRef }),
    z.strictObject({ configMapKeyRef: keyRef }),
    z.strictObject({ fieldRef: z.strictObject({ fieldPath: word, apiVersion: word.optional() }) }),
    z.strictObject({
      resourceFieldRef: z.strictObject({
        resource: word,
        containerName: dnsLabel.optional(),
        divisor: quantity.optional(),
      }),
    }),
  ],
  {
    error:
      "should be text (numbers in quotes), {value, expand}, or one of secretKeyRef, configMapKeyRef, fieldRef, resourceFieldRef",
  },
);

export const envSchema = z.record(envName, envValueSchema);

const qualified = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$/;
const labelKey = z.string().regex(qualified, { error: "should be NAME or DOMAIN/NAME, as Kubernetes has its labels" });

export const labelsSchema = z.record(
  labelKey,
  z.string().regex(/^([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?$/, {
    error: "should be a value of a label: at most 63 letters, digits, -, _ and .",
  }),
);
export const annotationsSchema = z.record(labelKey, z.string());

/** An object whose fields are Kubernetes' own, checked by the API server. */
export const anyObject = z.record(z.string(), z.unknown());
