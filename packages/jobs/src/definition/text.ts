import { Fault } from "@kube-connector/core";

// Two small languages inside a definition's texts: comma lists, and [[names]] that vars fill.

/**
 * `python,-m,report` → its items. `\,` is a comma, `\\` a backslash; blanks are kept as they are. Throws an Error with the
 * rest of a sentence when an item is empty or a backslash stands before something else.
 */
export function splitCommaList(text: string): string[] {
  const items = [""];
  for (let at = 0; at < text.length; at++) {
    const character = text.charAt(at);
    if (character === ",") {
      items.push("");
      continue;
    }
    if (character === "\\") {
      at++;
      if (text.charAt(at) !== "," && text.charAt(at) !== "\\")
        throw new Error(
          "should have a comma or a backslash after each backslash; write \\\\ for a backslash, or give a list",
        );
    }
    items.push(`${items.pop() ?? ""}${text.charAt(at)}`);
  }
  if (items.includes(""))
    throw new Error("should have no empty item in its comma list; give a list if an item is to be empty");
  return items;
}

/** A Job of more bytes is taken by no API server, and a few variables could fill all memory. */
const mostFilled = 2_000_000;

/**
 * The value with `[[name]]` replaced by that variable in all of its strings; names that are not declared stay. A Fault when
 * the variables put in more than 2,000,000 characters.
 */
export function fillVars(value: unknown, vars: Readonly<Record<string, string>>): unknown {
  let filled = 0;
  const replace = (whole: string, name: string) => {
    if (!Object.hasOwn(vars, name)) return whole;
    const text = vars[name] ?? whole;
    filled += text.length;
    if (filled > mostFilled)
      throw new Fault("invalid_argument", "The run definition cannot be used: /vars make it too large for a Job");
    return text;
  };
  const fill = (part: unknown): unknown => {
    if (typeof part === "string") return part.replaceAll(/\[\[([^[\]]+)\]\]/g, replace);
    if (Array.isArray(part)) return part.map(fill);
    if (typeof part === "object" && part !== null)
      return Object.fromEntries(Object.entries(part).map(([key, item]) => [key, fill(item)]));
    return part;
  };
  return fill(value);
}

/** Whether the value has objects and lists inside each other to more than that depth. */
export function isDeeperThan(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return depth === 0 || Object.values(value).some((item) => isDeeperThan(item, depth - 1));
}
