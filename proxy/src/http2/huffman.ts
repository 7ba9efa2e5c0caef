import { codeLengths } from "./hpack-tables.ts";

// Huffman decoding (RFC 7541, 5.2) four bits at a time: a state is a node of the code's tree, of which there are 256.

const endOfString = 256;
const none = -1;

interface Automaton {
  /** By state * 16 + the next four bits: the state after them, the byte they completed or -1, whether they are wrong. */
  next: Uint16Array;
  byte: Int16Array;
  wrong: Uint8Array;
  /** Whether a string may end in that state: nothing left over but up to seven one bits. */
  mayEnd: Uint8Array;
}

/** Made with the first string: to make it wakes V8's optimizing compiler, 6 MiB of a proxy that nobody uses. */
let made: Automaton | undefined;

/** A leaf is -2 - symbol, a node its number; [0] is the root. */
function createTree(): [number, number][] {
  const lengths = [...codeLengths, 30];
  const symbols = lengths.map((_, symbol) => symbol).sort((a, b) => (lengths[a] ?? 0) - (lengths[b] ?? 0) || a - b);
  const tree: [number, number][] = [[none, none]];
  let code = 0;
  let before = 0;
  for (const symbol of symbols) {
    const length = lengths[symbol] ?? 0;
    code *= 2 ** (length - before);
    before = length;
    let node = 0;
    for (let bit = length - 1; bit >= 0; bit--) {
      const branch = Math.floor(code / 2 ** bit) % 2 === 1 ? 1 : 0;
      const here = tree[node] ?? [none, none];
      if (bit === 0) here[branch] = -2 - symbol;
      else if (here[branch] === none) {
        here[branch] = tree.length;
        tree.push([none, none]);
      }
      node = here[branch];
    }
    code += 1;
  }
  return tree;
}

function createAutomaton(tree: [number, number][]): Automaton {
  const size = tree.length * 16;
  const automaton: Automaton = {
    next: new Uint16Array(size),
    byte: new Int16Array(size).fill(none),
    wrong: new Uint8Array(size),
    mayEnd: new Uint8Array(tree.length),
  };
  for (let at = 0; at < size; at++) step(automaton, tree, at);
  automaton.mayEnd[0] = 1;
  for (let node = 0, bits = 0; bits < 7; bits++) {
    node = tree[node]?.[1] ?? 0;
    automaton.mayEnd[node] = 1;
  }
  return automaton;
}

function step(automaton: Automaton, tree: [number, number][], at: number): void {
  let node = at >> 4;
  for (let bit = 3; bit >= 0; bit--) {
    const to = tree[node]?.[(at >> bit) & 1] ?? none;
    const symbol = -2 - to;
    if (to === none || symbol === endOfString) {
      automaton.wrong[at] = 1;
      return;
    }
    if (symbol >= 0) automaton.byte[at] = symbol;
    node = symbol >= 0 ? 0 : to;
  }
  automaton.next[at] = node;
}

/**
 * Decodes `bytes` from `from` to `to` into `out`, which has room for 8/5 of them: how many bytes came out, or -1 when
 * the code is wrong, has EOS in it, or ends in other than at most seven one bits.
 */
export function decodeHuffman(bytes: Uint8Array, from: number, to: number, out: Uint8Array): number {
  const { next, byte, wrong, mayEnd } = (made ??= createAutomaton(createTree()));
  let state = 0;
  let count = 0;
  for (let at = from; at < to; at++) {
    const two = bytes[at] as number;
    const high = state * 16 + (two >> 4);
    let found = byte[high] as number;
    if (wrong[high] === 1) return -1;
    if (found >= 0) out[count++] = found;
    const low = (next[high] as number) * 16 + (two & 15);
    found = byte[low] as number;
    if (wrong[low] === 1) return -1;
    if (found >= 0) out[count++] = found;
    state = next[low] as number;
  }
  return mayEnd[state] === 1 ? count : -1;
}
