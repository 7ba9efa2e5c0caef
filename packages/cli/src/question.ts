import { createInterface } from "node:readline/promises";
import { Fault } from "@kube-connector/core";

/** Asks on a terminal; anything but y or yes is no. Without a terminal it throws a Fault that names --yes. */
export function askYes(
  input: NodeJS.ReadStream,
  output: NodeJS.WriteStream,
  signal: AbortSignal,
): (question: string) => Promise<boolean> {
  return async (question) => {
    if (!input.isTTY) {
      throw new Fault("invalid_argument", "There is no terminal to ask on, so nothing was deleted; give --yes");
    }
    const reader = createInterface({ input, output });
    try {
      return /^y(es)?$/i.test((await reader.question(`${question} [y/N] `, { signal })).trim());
    } catch (error) {
      if (signal.aborted) return false;
      throw error;
    } finally {
      reader.close();
    }
  };
}
