import { Refusal } from "../answers.ts";
import type { RequestHead } from "../http1/head.ts";

// How a target is asked for objects without their content: Kubernetes' PartialObjectMetadata, in JSON, uncompressed, so
// that what comes can be read and judged.

/** How the client is told: as PartialObjectMetadata, or as a Table of names, which is what kubectl get prints. */
export type MetadataForm = "metadata" | "table";

/** A reading request of that verb (get, list, watch), asking for metadata. Refusal: 406 when its sender cannot take that. */
export function askForMetadata(head: RequestHead, verb: string): { head: RequestHead; form: MetadataForm } {
  const accepts = head.headers.filter(({ lower }) => lower === "accept").map(({ value }) => value);
  const clauses = accepts.length === 0 ? ["*/*"] : accepts.join(",").split(",");
  const form = clauses.map(formOf).find((one) => one !== undefined);
  if (form === undefined) {
    throw new Refusal(
      406,
      "Of this resource the connector's policy shows only metadata, as PartialObjectMetadata in JSON; let Accept hold application/json",
    );
  }
  const kept = head.headers.filter(({ lower }) => !replaced.has(lower));
  const kind = verb === "list" ? "PartialObjectMetadataList" : "PartialObjectMetadata";
  const accept = `application/json;as=${kind};g=meta.k8s.io;v=v1`;
  const headers = [
    ...kept,
    { name: "Accept", lower: "accept", value: accept },
    { name: "Accept-Encoding", lower: "accept-encoding", value: "identity" },
  ];
  return { head: { ...head, headers }, form };
}

const replaced = new Set(["accept", "accept-encoding", "range", "if-range"]);

/** The form that one clause of Accept takes; undefined for none that we have. */
function formOf(clause: string): MetadataForm | undefined {
  const [type, ...parameters] = clause.split(";").map((part) => part.trim().toLowerCase());
  if (type !== "application/json" && type !== "application/*" && type !== "*/*") return undefined;
  if (parameters.some((one) => /^q=0(\.0*)?$/.test(one))) return undefined;
  const as = parameters.find((one) => one.startsWith("as="));
  if (as === "as=table") return parameters.includes("v=v1") ? "table" : undefined;
  return as === undefined || as.startsWith("as=partialobjectmetadata") ? "metadata" : undefined;
}
