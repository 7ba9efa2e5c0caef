import type { ResolvedConnector } from "@kube-connector/core";
import { warningLine } from "../answers.ts";
import { clientHeaderLines, type Cut, type LastClientCuts } from "../headers.ts";
import { type SpareBuffer, spareBuffers } from "../spare-buffers.ts";
import type { ResponseHead } from "./head.ts";

/** An answer's head as the client gets it: `lines` of the target's and `more` of ours, each with its line end. */
export function headText(head: ResponseHead, lines: string, more: string): string {
  return `HTTP/1.1 ${head.status} ${head.phrase}\r\n${lines}${more}\r\n`;
}

/** The header lines that we add to an answer, each with its line end. */
export function linesOfOurs(of: { warnings: readonly (string | undefined)[]; close: boolean }): string {
  let lines = "";
  for (const warning of of.warnings) if (warning !== undefined) lines += `${warningLine(warning)}\r\n`;
  return of.close ? `${lines}Connection: close\r\n` : lines;
}

/** Whether an answer's first line came as `headText` writes it. */
function isPlainFirstLine(head: ResponseHead): boolean {
  return !head.old && head.linesAt === "HTTP/1.1 200 \r\n".length + head.phrase.length;
}

/** A head for the client: written anew, or as it came, without what is cut out of its lines. */
export type HeadForClient = string | { linesAt: number; cuts: readonly Cut[] };

/** An answer's head with `more` lines of ours. With `last`, as it came where that can be. */
export function headForClient(head: ResponseHead, more: string, last?: LastClientCuts): HeadForClient {
  const cuts = more === "" && isPlainFirstLine(head) ? last?.of(head) : undefined;
  return cuts === undefined ? headText(head, clientHeaderLines(head), more) : { linesAt: head.linesAt, cuts };
}

/**
 * A head and the bytes of its body, from one offset to another, as one buffer, so that a small answer is one TLS record. One
 * that is sent as it came stands at the beginning of the bytes, before its body.
 */
export function withBody(head: HeadForClient, bytes: Buffer, from: number, to: number): SpareBuffer {
  return typeof head === "string" ? joined(head, bytes, from, to) : withoutCuts(bytes, to, head.linesAt, head.cuts);
}

function joined(head: string, bytes: Buffer, from: number, to: number): SpareBuffer {
  const length = head.length + to - from;
  const { bytes: whole, release } = spareBuffers.take(length);
  whole.write(head, 0, "latin1");
  bytes.copy(whole, head.length, from, to);
  return { bytes: whole.subarray(0, length), release };
}

function withoutCuts(bytes: Buffer, to: number, linesAt: number, cuts: readonly Cut[]): SpareBuffer {
  const { bytes: whole, release } = spareBuffers.take(to);
  bytes.copy(whole, 0, 0, to);
  let start = 0;
  for (const { at, length } of cuts) {
    // What is before the line moves up to what is behind it.
    whole.copyWithin(start + length, start, linesAt + at);
    start += length;
  }
  return { bytes: whole.subarray(start, to), release };
}

/** kubectl shows nothing of a 401 but its own words, which send people to look at their kubeconfig. */
export function tokenRefused({ namespace, name, target }: ResolvedConnector): string {
  const what = `The target cluster at ${target.authority} refuses the stored token of connector ${namespace}/${name}`;
  return `${what}; its admin should put a valid one into the Secret`;
}
