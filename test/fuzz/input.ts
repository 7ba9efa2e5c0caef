import type { ResolvedConnector } from "@kube-connector/core";
import type { Door } from "@kube-connector/proxy";
import { callerToken } from "../kit/test-proxy.ts";

// One input of the fuzzer. What comes from outside is Latin-1 text; the host's name stands in it as on the reverse door and
// is replaced by the target's own on the forward door.

/** What a client sends. */
export interface RequestsInput {
  kind: "requests";
  door: Door;
  bytes: string;
}

/** What a target answers. */
export interface AnswerInput {
  kind: "answer";
  door: Door;
  /** What it was asked. */
  asked: "GET" | "HEAD" | "POST" | "upgrade";
  bytes: string;
  /** Whether the target ends its connection with the last byte, or only when nothing more happens. */
  ends: "at once" | "later";
}

export type Input = RequestsInput | AnswerInput;

/** In which pieces the bytes come: their lengths, and whether all settles behind a piece. What is left comes as the last. */
export type Split = readonly { length: number; settles: boolean }[];

/** The host in the text of inputs; as long as a target's on loopback, so that lengths hold at both doors. */
export const host = "c-prod.ns-a.svc";

export const credential = `Authorization: Bearer ${callerToken}`;

/** The bytes as they are sent for that connector. */
export function bytesFor({ door, bytes }: Input, connector: ResolvedConnector): string {
  return withHost(bytes, door, connector);
}

export function methodOf({ asked }: AnswerInput): string {
  return asked === "upgrade" ? "GET" : asked;
}

function withHost(text: string, door: Door, connector: ResolvedConnector): string {
  return door === "forward" ? text.replaceAll(host, connector.target.hostHeader) : text;
}

/** The request that an answer's bytes are for. */
export function askedText({ asked, door }: AnswerInput, connector: ResolvedConnector): string {
  const start = (method: string) =>
    withHost(`${method} /api/v1/pods HTTP/1.1\r\nHost: ${host}\r\n${credential}\r\n`, door, connector);
  if (asked === "POST") return `${start("POST")}Content-Length: 5\r\n\r\nhello`;
  if (asked === "upgrade") return `${start("GET")}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
  return `${start(asked)}\r\n`;
}

/** The request that follows where the connection is kept. */
export function secondText({ door }: AnswerInput, connector: ResolvedConnector): string {
  return withHost(`GET /second HTTP/1.1\r\nHost: ${host}\r\n${credential}\r\n\r\n`, door, connector);
}

export function piecesOf(bytes: string, split: Split): { bytes: string; settles: boolean }[] {
  const pieces = [];
  let at = 0;
  for (const { length, settles } of split) {
    if (at >= bytes.length) break;
    pieces.push({ bytes: bytes.slice(at, at + length), settles });
    at += length;
  }
  if (at < bytes.length) pieces.push({ bytes: bytes.slice(at), settles: false });
  return pieces;
}
