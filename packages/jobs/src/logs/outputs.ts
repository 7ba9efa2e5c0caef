// A program gives its run outputs by lines that begin with `::output ` and hold a JSON object.

/** Bytes of all names and values together that are kept. */
const most = 1_048_576;

export interface Outputs {
  /** What stands after `::output ` in a line; what is no JSON object is left alone. */
  take(json: string): void;
  /** Values are texts; other values are given as JSON. Of two with the same name the last counts. */
  found(): Record<string, string>;
}

export function createOutputs(): Outputs {
  const values = new Map<string, string>();
  let size = 0;
  return {
    take(json) {
      const object = parseObject(json);
      for (const [name, value] of Object.entries(object ?? {})) {
        const words = typeof value === "string" ? value : JSON.stringify(value);
        const grown = size + words.length - (values.get(name)?.length ?? -name.length);
        if (grown > most) continue;
        size = grown;
        values.set(name, words);
      }
    },
    found: () => Object.fromEntries(values),
  };
}

function parseObject(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
