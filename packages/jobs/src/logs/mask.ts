import type { Secret } from "@kube-connector/core";

const hidden = Buffer.from("***");

/** Lines of a value of several lines that are shorter say little and would hide half of a log: a lone brace, say. */
const shortestLine = 4;

/** Replaces secret values by `***`. */
export interface Masks {
  /** Bytes of the longest value. */
  longest: number;
  /** Whether any value occurs. */
  found(bytes: Buffer): boolean;
  apply(bytes: Buffer): Buffer;
  /**
   * The same for a text that goes on: where a value may still be incomplete, or the beginning of a longer one, the bytes are
   * given back as they are, as `rest`.
   */
  applyToBeginning(bytes: Buffer): { masked: Buffer; rest: Buffer };
}

/** A value of several lines is hidden line by line, as a log has no value that is longer than a line. */
export function createMasks(secrets: readonly Secret[]): Masks {
  const values = new Set<string>();
  for (const secret of secrets) {
    const lines = secret.reveal().split(/\r?\n/);
    for (const line of lines) if (line.length >= (lines.length === 1 ? 1 : shortestLine)) values.add(line);
  }
  // The longest first: of a value that begins with another one nothing may be left.
  const patterns = [...values].map((value) => Buffer.from(value)).sort((a, b) => b.length - a.length);
  const longest = patterns[0]?.length ?? 0;
  return {
    longest,
    found: (bytes) => patterns.some((one) => bytes.includes(one)),
    apply: (bytes) => replace(bytes, patterns, bytes.length).masked,
    applyToBeginning: (bytes) => replace(bytes, patterns, Math.max(0, bytes.length - longest)),
  };
}

/** Replaces what begins before `limit`; of two that begin in the same place the longer one. */
function replace(bytes: Buffer, patterns: readonly Buffer[], limit: number): { masked: Buffer; rest: Buffer } {
  const pieces: Buffer[] = [];
  let from = 0;
  const next = patterns.map((pattern) => bytes.indexOf(pattern));
  for (;;) {
    let first = -1;
    for (const [index, pattern] of patterns.entries()) {
      if (next[index] !== -1 && (next[index] as number) < from) next[index] = bytes.indexOf(pattern, from);
      const at = next[index] as number;
      if (at !== -1 && at < limit && (first === -1 || at < (next[first] as number))) first = index;
    }
    if (first === -1) break;
    const at = next[first] as number;
    pieces.push(bytes.subarray(from, at), hidden);
    from = at + (patterns[first] as Buffer).length;
  }
  const end = Math.max(from, limit);
  if (pieces.length === 0) return { masked: bytes.subarray(0, end), rest: bytes.subarray(end) };
  return { masked: Buffer.concat([...pieces, bytes.subarray(from, end)]), rest: bytes.subarray(end) };
}
