import type * as z from "zod";

// What a schema found, as sentences that begin with a JSON pointer (RFC 6901). Values are never repeated in them: they
// may be secrets.

const kinds: Record<string, string> = {
  string: "text",
  int: "a whole number",
  number: "a number",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  record: "an object",
  null: "null",
};

/** `["env", "a/b"]` → `/env/a~1b`. */
export function pointer(path: readonly PropertyKey[]): string {
  // A key may hold anything; what is printed holds no control character.
  const parts = path.map((part) =>
    String(part)
      .replaceAll("~", "~0")
      .replaceAll("/", "~1")
      .replaceAll(/\p{Cc}/gu, "?"),
  );
  return parts.map((part) => `/${part}`).join("");
}

/** Every issue as a sentence. `value` is what was checked; `at` its own place. */
export function sentencesOf(issues: readonly z.core.$ZodIssue[], value: unknown, at: readonly PropertyKey[]): string[] {
  return issues.flatMap((issue) => {
    const path = [...at, ...issue.path];
    const found = lookUp(value, issue.path);
    if (issue.code === "unrecognized_keys")
      return issue.keys.map((key) => `${pointer([...path, key])} is not a field that there is`);
    if (issue.code === "invalid_key") return sentencesOf(issue.issues, issue.path.at(-1), path);
    if (issue.code === "invalid_union") {
      const branch = found === undefined ? undefined : closestBranch(issue.errors);
      if (branch !== undefined) return sentencesOf(branch, found, path);
    }
    return [`${pointer(path)} ${found === undefined ? "is missing" : wordsOf(issue, found)}`];
  });
}

function wordsOf(issue: z.core.$ZodIssue, found: unknown): string {
  if (issue.code === "invalid_type") {
    if (typeof found === "number" && issue.expected === "int") return "should be a whole number";
    return `should be ${kinds[issue.expected] ?? issue.expected}, and is ${kindOf(found)}`;
  }
  if (issue.code === "invalid_value") return `should be one of ${issue.values.map(String).join(", ")}`;
  if (issue.code === "too_small") return `should ${sized(issue.origin, `at least ${issue.minimum}`)}`;
  if (issue.code === "too_big") return `should ${sized(issue.origin, `at most ${issue.maximum}`)}`;
  return issue.message;
}

function sized(origin: string, bound: string): string {
  if (origin === "string") return `have ${bound} characters`;
  return origin === "array" ? `have ${bound} items` : `be ${bound}`;
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return kinds[typeof value] ?? typeof value;
}

/** Of a union's branches the one that the value was meant for: it has the right kind, and no key that is not known. */
function closestBranch(branches: readonly (readonly z.core.$ZodIssue[])[]): readonly z.core.$ZodIssue[] | undefined {
  return branches.find((issues) =>
    issues.every(
      (issue) => issue.path.length > 0 || (issue.code !== "invalid_type" && issue.code !== "unrecognized_keys"),
    ),
  );
}

/** What is at that path, undefined when there is nothing. */
export function lookUp(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (inner, part) =>
      typeof inner === "object" && inner !== null ? (inner as Record<PropertyKey, unknown>)[part] : undefined,
    value,
  );
}
