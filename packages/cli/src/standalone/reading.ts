import { readDirectory } from "./directory.ts";
import { parseInput } from "./input.ts";
import type { Resolutions, Resolver } from "./resolver.ts";

/** What a directory says at one moment. */
export interface Reading extends Resolutions {
  /** Objects of other kinds. */
  ignored: string[];
  /** False when a file could not be understood: then `connectors` is empty and says nothing. */
  readable: boolean;
}

/** Throws a Fault when the directory itself cannot be read. */
export async function readConnectors(directory: string, resolver: Resolver): Promise<Reading> {
  const { objects, problems: unreadable } = await readDirectory(directory);
  const input = parseInput(objects);
  const wrong = [...unreadable, ...input.problems];
  // With half of the objects unread, what the rest means is not known.
  if (wrong.length > 0) return { connectors: new Map(), problems: wrong, ignored: input.ignored, readable: false };
  return { ...(await resolver.resolve(input)), ignored: input.ignored, readable: true };
}

export const onlyConnectors = (reading: Resolutions) =>
  new Map([...reading.connectors].map(([key, { connector }]) => [key, connector]));
