import { buildGoReader, startGoReader } from "./go-reader.ts";
import { createNodeReader } from "./node-reader.ts";
import type { Reader } from "./reading.ts";

/** All who must read the same as the proxy. */
export interface Readers extends AsyncDisposable {
  all: readonly Reader[];
}

/** Builds what has to be built, and starts them. */
export async function startReaders(): Promise<Readers> {
  const go = startGoReader(await buildGoReader());
  return {
    all: [go, createNodeReader({ lenient: false }), createNodeReader({ lenient: true })],
    [Symbol.asyncDispose]: () => go[Symbol.asyncDispose](),
  };
}
