import type { KubeObject } from "@kube-connector/core";
import { badRequest } from "./refusal.ts";
import { fieldsOf } from "./kinds.ts";

// labelSelector and fieldSelector of list and watch.

/** Whether an object is selected by the two query parameters. */
export function createSelector(query: URLSearchParams): (object: KubeObject) => boolean {
  const tests = [...labelTests(query.get("labelSelector") ?? ""), ...fieldTests(query.get("fieldSelector") ?? "")];
  return (object) => tests.every((test) => test(object));
}

type Test = (object: KubeObject) => boolean;

function fieldTests(selector: string): Test[] {
  return split(selector).map((term) => {
    const match = /^([\w.]+)(==|=|!=)(.*)$/.exec(term);
    if (match === null) throw badRequest(`unable to parse the field selector "${term}"`);
    const path = (match[1] ?? "").split(".");
    return (object) => {
      let found: unknown = object;
      for (const part of path) found = fieldsOf(found)[part];
      return ((typeof found === "string" ? found : "") === match[3]) === (match[2] !== "!=");
    };
  });
}

function labelTests(selector: string): Test[] {
  return split(selector).map((term) => {
    const set = /^(\S+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(term);
    const equal = /^([^!=\s]+)\s*(==|=|!=)\s*(\S*)$/.exec(term);
    const label = (object: KubeObject, name: string | undefined) => {
      const found = fieldsOf(object.metadata.labels)[name ?? ""];
      return typeof found === "string" ? found : undefined;
    };
    if (set !== null) {
      const values = (set[3] ?? "").split(",").map((value) => value.trim());
      return (object) => values.includes(label(object, set[1]) ?? "\0") === (set[2] === "in");
    }
    if (equal !== null) return (object) => (label(object, equal[1]) === equal[3]) === (equal[2] !== "!=");
    if (/^!?\S+$/.test(term)) {
      const absent = term.startsWith("!");
      return (object) => (label(object, term.replace(/^!/, "")) === undefined) === absent;
    }
    throw badRequest(`unable to parse the label selector "${term}"`);
  });
}

/** At the commas outside parentheses. */
function split(selector: string): string[] {
  return selector
    .split(/,(?![^(]*\))/)
    .map((term) => term.trim())
    .filter((term) => term !== "");
}
