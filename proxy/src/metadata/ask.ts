import { Refusal } from "../answers.ts";
import type { RequestHead } from "../http1/head.ts";

// How a target is asked for objects without their content: Kubernetes' PartialObjectMetadata, in JSON, uncompressed, so
// that what comes can be read and judged.

/** A reading request of that verb (get, list, watch), asking for metadata. Refusal: 406 when its sender cannot take that. */
export function askForMetadata(head: RequestHead, verb: string): RequestHead {
  const accepts = head.headers.filter(({ lower }) => lower === "accept").map(({ value }) => value);
  if (accepts.length > 0 && !accepts.join(",").split(",").some(takesMetadata)) {
    throw new Refusal(
      406,
      "Of this resource the connector's policy shows only metadata, as PartialObjectMetadata in JSON; let Accept hold application/json",
    );
  }
  const kept = head.headers.filter(({ lower }) => !replaced.has(lower));
  const kind = verb === "list" ? "PartialObjectMetadataList" : "PartialObjectMetadata";
  const accept = `application/json;as=${kind};g=meta.k8s.io;v=v1`;
  return {
    ...head,
    headers: [
      ...kept,
      { name: "Accept", lower: "accept", value: accept },
      { name: "Accept-Encoding", lower: "accept-encoding", value: "identity" },
    ],
  };
}

const replaced = new Set(["accept", "accept-encoding", "range", "if-range"]);

/** One clause of Accept. */
function takesMetadata(clause: string): boolean {
  const [type, ...parameters] = clause.split(";").map((part) => part.trim().toLowerCase());
  if (type !== "application/json" && type !== "application/*" && type !== "*/*") return false;
  if (parameters.some((one) => /^q=0(\.0*)?$/.test(one))) return false;
  const as = parameters.find((one) => one.startsWith("as="));
  return as === undefined || as.startsWith("as=partialobjectmetadata");
}
