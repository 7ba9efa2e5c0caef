import { type Clock, Fault, type Log } from "@kube-connector/core";
import { quoted, type Say } from "../terminal.ts";
import { onlyConnectors, type Reading, readConnectors } from "./reading.ts";
import type { Resolver } from "./resolver.ts";
import type { GivenSource } from "./source.ts";
import { sayTargets } from "./targets.ts";
import type { Writer } from "./writer.ts";

export interface TakeOverOptions {
  directory: string;
  resolver: Resolver;
  source: GivenSource;
  writer: Writer;
  clock: Clock;
  log: Log;
  say: Say;
}

/**
 * Makes a change of the directory so. Files that cannot be understood change nothing, as an API server would refuse them;
 * a missing Secret takes its token away at once, and a missing Connector ends its streams.
 */
export async function takeOver(last: Reading, options: TakeOverOptions): Promise<Reading> {
  const { source, writer, say } = options;
  const now = await readAgain(options);
  for (const problem of now.problems) say(`! ${problem}`);
  if (!now.readable) {
    say("! The change is not taken over; what was served goes on.");
    return last;
  }
  source.give(onlyConnectors(now));
  await writer.write(now);
  for (const key of last.connectors.keys()) {
    if (!now.connectors.has(key)) say(`${key} is gone: its streams are ended and its kubeconfig is removed.`);
  }
  const changed = [...now.connectors].filter(
    ([key, { connector }]) => last.connectors.get(key)?.connector !== connector,
  );
  for (const [key] of changed) {
    const isNew = !last.connectors.has(key);
    say(
      isNew ? `${key} is served: export KUBECONFIG=${quoted(writer.pathsOf(key).kubeconfig)}` : `${key} has changed.`,
    );
  }
  await sayTargets(
    changed.filter(([, { connector }]) => connector.unavailable === undefined),
    options,
  );
  return now;
}

async function readAgain({ directory, resolver }: TakeOverOptions): Promise<Reading> {
  try {
    return await readConnectors(directory, resolver);
  } catch (error) {
    const fault = Fault.from(error);
    // A directory that is gone holds no connector; one that cannot be read says nothing.
    if (fault.code !== "invalid_argument") throw error;
    return { connectors: new Map(), problems: [fault.message], ignored: [], readable: true };
  }
}
