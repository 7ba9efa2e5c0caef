import type { ClientSessionOptions, ServerSessionOptions } from "node:http2";
import { streamLimit } from "../http2/client-side.ts";

// What node:http2 decides by itself, as near to the rules of the own relay as its options come.

/** Bytes of bodies that may wait in the proxy on one connection, in the direction of one stream. */
const streamWindow = 131_072;
/** Bytes that one side may send ahead on all streams; node:http2 gives them back as they come. */
export const connectionWindow = 1_048_576;

/** Malformed frames of one session that are answered; then it ends. */
const invalidFrames = 200;

function common(head: number) {
  return {
    // One line more than what is refused with words, so that there are words.
    maxHeaderListPairs: Math.ceil((2 * head) / 33),
    maxSendHeaderBlockLength: 4 * head,
    maxSessionInvalidFrames: invalidFrames,
    maxSessionRejectedStreams: invalidFrames,
    // Megabytes.
    maxSessionMemory: 64,
    maxSettings: 32,
    // Repeated lines pass as they came; what may not be repeated has been judged.
    strictSingleValueFields: false,
  } as const;
}

/** Towards clients. `head`: bytes of a header list that is read; up to twice as many are read and refused with words. */
export function serverOptions(head: number): ServerSessionOptions {
  return {
    ...common(head),
    // The budget counts them too, and says why; this is for those that come before it is heard.
    streamResetBurst: 1000,
    streamResetRate: 200,
    settings: { maxConcurrentStreams: streamLimit, initialWindowSize: streamWindow, maxHeaderListSize: 2 * head },
  };
}

/** Towards targets. */
export function clientOptions(head: number): ClientSessionOptions {
  return {
    ...common(head),
    settings: { enablePush: false, initialWindowSize: streamWindow, maxHeaderListSize: 2 * head },
  };
}
