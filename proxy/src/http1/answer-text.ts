import type { ResponseHead } from "./head.ts";

/** An answer's head as the client gets it: `lines` of the target's and `more` of ours, each with its line end. */
export function headText(head: ResponseHead, lines: string, more: string): string {
  return `HTTP/1.1 ${head.status} ${head.phrase}\r\n${lines}${more}\r\n`;
}

/** One buffer, so that a small answer is one TLS record. */
export function joined(head: string, bytes: Buffer, from: number, end: number): Buffer {
  const buffer = Buffer.allocUnsafe(head.length + end - from);
  buffer.write(head, 0, "latin1");
  bytes.copy(buffer, head.length, from, end);
  return buffer;
}
