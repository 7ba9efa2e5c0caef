import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { Fault, policySchema, schemaProblems } from "@kube-connector/core";
import { stringify } from "yaml";
import { type AuditEvent, type Suggestion, type SuggestOptions, suggestRules } from "./policy.ts";
import type { Say } from "./terminal.ts";

/** Prints the least rules for the traffic in audit logs, a YAML document for each connector. Fault when a file is no log. */
export async function suggestPolicy(files: readonly string[], options: SuggestOptions & { say: Say }): Promise<void> {
  const events: AuditEvent[] = [];
  const seen = new Set<string>();
  for (const file of files) {
    for await (const event of readEvents(file)) {
      // Millions of lines ask for few things: each is kept once.
      const key = keyOf(event, options.names);
      if (!seen.has(key)) events.push(event);
      seen.add(key);
    }
  }
  const suggestions = suggestRules(events, options);
  if (suggestions.length === 0) {
    const whose = options.connector === undefined ? "" : ` of the connector ${options.connector}`;
    throw new Fault("not_found", `There is no request${whose} in ${files.join(", ")}; give audit logs of a proxy`);
  }
  for (const suggestion of suggestions) options.say(documentOf(suggestion));
}

/** All that a suggestion depends on. */
function keyOf({ verb, requestURI, objectRef, responseStatus, annotations = {} }: AuditEvent, names: boolean): string {
  const notes = ["connector.namespace", "connector.name", "decision", "upgrade", "method"];
  const own = notes.map((name) => annotations[`proxy.connectors.cpaas.io/${name}`]);
  const { resource, subresource, apiGroup, namespace, name } = objectRef ?? {};
  const what = objectRef === undefined ? requestURI : [resource, subresource, apiGroup, namespace, names ? name : ""];
  return JSON.stringify([verb, what, responseStatus?.code === 101, own]);
}

/** "-" is standard input. Lines that are no JSON objects (a process log beside the audit log) are left aside. */
async function* readEvents(file: string): AsyncGenerator<AuditEvent> {
  const input = file === "-" ? process.stdin : createReadStream(file);
  let lines = 0;
  let events = 0;
  try {
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      if (line.trim() === "") continue;
      lines += 1;
      const event = parseEvent(line);
      if (event === undefined) continue;
      events += 1;
      yield event;
    }
  } catch (error) {
    throw Fault.from(error, `Cannot read ${file}`);
  }
  if (lines > 0 && events === 0) {
    throw new Fault("invalid_argument", `${file} holds no audit.k8s.io/v1 Events, one JSON object in each line`);
  }
}

function parseEvent(line: string): AuditEvent | undefined {
  try {
    const value = JSON.parse(line) as { kind?: unknown } | null;
    return value?.kind === "Event" ? (value as AuditEvent) : undefined;
  } catch {
    return undefined;
  }
}

function documentOf({ connector, rules, used, refused }: Suggestion): string {
  const whose = connector === "" ? "" : ` of the connector ${connector}`;
  const aside = refused === 0 ? "" : ` ${refused} that the proxy refused are left aside (--denied takes them in).`;
  const parsed = policySchema.safeParse({ rules });
  const wrong = parsed.success
    ? []
    : schemaProblems(parsed.error).map((one) => `# Not allowed in a Connector: ${one}\n`);
  const text = stringify({ policy: { rules } }, { lineWidth: 120, flowCollectionPadding: false });
  return `---\n# For spec${whose}, from ${used} different requests.${aside}\n${wrong.join("")}${text}`.trimEnd();
}
