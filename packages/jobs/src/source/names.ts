import { createHash } from "node:crypto";

// Names and digests that come from what they stand for, so that a repeated submission meets the first one's object.

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

/** `<base, 40>-<10 characters>`: at most 51, so that an index and a pod's suffix fit into 63. Always the same. */
export function jobName(base: string, runId: string, attempt: number): string {
  const digest = createHash("sha256").update(`${runId}/${attempt}`).digest();
  const suffix = Array.from({ length: 10 }, (_, index) => alphabet[digest.readUInt8(index) % 32]).join("");
  return `${base.slice(0, 40).replace(/-+$/, "")}-${suffix}`;
}

/** `sha256:` and the digest of a value whose objects are written with sorted keys. */
export function fingerprintOf(value: unknown): string {
  return `sha256:${createHash("sha256").update(canonical(value)).digest("hex")}`;
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/** `1,3-5` as in a Job's status → [1, 3, 4, 5]. */
export function parseIndexes(text: string): number[] {
  return text
    .split(",")
    .filter((part) => part !== "")
    .flatMap((part) => {
      const [first = 0, last = first] = part.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}
