import type { ResolvedConnector } from "@kube-connector/core";
import { type SpareBuffer, SpareBuffers } from "../spare-buffers.ts";
import type { ResponseHead } from "./head.ts";

/** An answer's head as the client gets it: `lines` of the target's and `more` of ours, each with its line end. */
export function headText(head: ResponseHead, lines: string, more: string): string {
  return `HTTP/1.1 ${head.status} ${head.phrase}\r\n${lines}${more}\r\n`;
}

/** Bytes of most answers' heads with what has come of their bodies. */
const usualSize = 16_384;
const usual = new SpareBuffers(usualSize);

/**
 * A head and the bytes before `end` as one buffer, so that a small answer is one TLS record; it is to be released when it
 * is written.
 */
export function joined(head: string, bytes: Buffer, end: number): SpareBuffer {
  const length = head.length + end;
  const { bytes: whole, release } = length > usualSize ? unusual(length) : usual.take();
  whole.write(head, 0, "latin1");
  bytes.copy(whole, head.length, 0, end);
  return { bytes: whole.subarray(0, length), release };
}

function unusual(length: number): SpareBuffer {
  return { bytes: Buffer.allocUnsafeSlow(length), release: () => undefined };
}

/** kubectl shows nothing of a 401 but its own words, which send people to look at their kubeconfig. */
export function tokenRefused({ namespace, name, target }: ResolvedConnector): string {
  const what = `The target cluster at ${target.authority} refuses the stored token of connector ${namespace}/${name}`;
  return `${what}; its admin should put a valid one into the Secret`;
}
