import { parseArgs } from "node:util";
import { problems } from "./fault.ts";

/** One setting of a process: `--flag`, then the environment `KUBE_CONNECTOR_FLAG`, then the default. */
export interface Option<T> {
  /** For the README and --help: what it sets, with its unit. */
  meaning: string;
  /** Shown in the README and taken when neither flag nor environment gives it; undefined: no value. */
  default: string | undefined;
  /** The environment variable, where it is not KUBE_CONNECTOR_<FLAG>. */
  env?: string;
  /** Text → value; throws a sentence (an Error's message) that says what the text should be. */
  parse: (text: string) => T;
}

export type Options<T> = { [K in keyof T]: Option<T[K]> };

/** `proxyImage` → `--proxy-image`. */
export function flagOf(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** `proxyImage` → `KUBE_CONNECTOR_PROXY_IMAGE`. */
export function envOf(name: string, option: Option<unknown>): string {
  return option.env ?? `KUBE_CONNECTOR_${flagOf(name).slice(2).replaceAll("-", "_").toUpperCase()}`;
}

/**
 * Reads settings by their table. An option without a default and not given is undefined in the answer (so its `T` should
 * allow that). Every problem is reported at once as an `invalid_argument` Fault.
 */
export function readOptions<T extends object>(
  table: Options<T>,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): T {
  const names = Object.keys(table) as (keyof T & string)[];
  const byFlag = new Map(names.map((name) => [flagOf(name).slice(2), name]));
  const { tokens } = parseArgs({
    args: [...argv],
    options: Object.fromEntries([...byFlag.keys()].map((flag) => [flag, { type: "string" as const }])),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const wrong: string[] = [];
  const texts = new Map<string, { text: string; from: string }>();
  for (const name of names) {
    const from = envOf(name, table[name]);
    const text = env[from];
    if (text !== undefined && text !== "") texts.set(name, { text, from });
  }
  let unknown = false;
  for (const token of tokens) {
    // What follows an unknown flag is most likely its value.
    if (token.kind === "positional" && !unknown) wrong.push(`"${token.value}" is no flag; settings are --name value`);
    unknown = false;
    if (token.kind !== "option") continue;
    const name = byFlag.get(token.name);
    unknown = name === undefined;
    if (name === undefined) wrong.push(`unknown flag ${token.rawName}; known are ${names.map(flagOf).join(", ")}`);
    else if (token.value === undefined) wrong.push(`${token.rawName} needs a value`);
    else texts.set(name, { text: token.value, from: token.rawName });
  }
  const values: Partial<T> = {};
  for (const name of names) {
    const option = table[name];
    const given =
      texts.get(name) ?? (option.default === undefined ? undefined : { text: option.default, from: "default" });
    if (given === undefined) continue;
    try {
      values[name] = option.parse(given.text);
    } catch (error) {
      wrong.push(`${given.from}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const fault = problems("The settings cannot be used", wrong);
  if (fault !== undefined) throw fault;
  return values as T;
}

/** Parsers for the usual kinds of value. */
export const value = {
  text: (text: string): string => text,
  list: (text: string): string[] =>
    text
      .split(",")
      .map((item) => item.trim())
      .filter((item) => item !== ""),
  oneOf:
    <const V extends string>(...values: readonly V[]) =>
    (text: string): V => {
      const found = values.find((one) => one === text);
      if (found === undefined) throw new Error(`"${text}" should be one of ${values.join(", ")}`);
      return found;
    },
  flag: (text: string): boolean => {
    if (text !== "true" && text !== "false") throw new Error(`"${text}" should be true or false`);
    return text === "true";
  },
  /** A whole number in a range, both ends included. */
  whole:
    (least: number, most: number) =>
    (text: string): number => {
      const number = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
      if (!(number >= least && number <= most))
        throw new Error(`"${text}" should be a whole number from ${least} to ${most}`);
      return number;
    },
  /** `10s`, `500ms`, `5m`, `1h` → milliseconds. */
  duration: (text: string): number => {
    const match = /^(\d{1,9})(ms|s|m|h)$/.exec(text);
    if (match === null) throw new Error(`"${text}" should be a duration such as 500ms, 10s, 5m or 1h`);
    return Number(match[1]) * { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match[2] as "ms" | "s" | "m" | "h"];
  },
  /** `0.0.0.0:8080`, `[::]:8080` → host and port; port 0 takes a free one. */
  listen: (text: string): { host: string; port: number } => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
    const port = Number(match?.[3]);
    if (match === null || port > 65_535)
      throw new Error(`"${text}" should be host:port, such as 0.0.0.0:8080 or [::]:8080`);
    return { host: match[1] ?? match[2] ?? "", port };
  },
};

/** The table as the README of a room shows it. */
export function optionsMarkdown<T extends object>(table: Options<T>): string {
  const rows = Object.entries<Option<unknown>>(table).map(
    ([name, option]) =>
      `| \`${flagOf(name)}\` | \`${envOf(name, option)}\` | ${option.default === undefined ? "" : `\`${option.default}\``} | ${option.meaning} |`,
  );
  return ["| flag | environment | default | meaning |", "|---|---|---|---|", ...rows].join("\n");
}
