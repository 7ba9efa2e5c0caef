import type { ResolvedConnector } from "@kube-connector/core";
import { Refusal, warningLine } from "../answers.ts";
import { type ErrorName, errorCodes } from "./errors.ts";
import { type Field, plainField } from "./field.ts";
import type { Stream } from "./stream.ts";

// What an answer, or its absence, means for its stream: pure.

/** Milliseconds without an answer after which its head may lie with the target, ready. */
const quiet = 500;

/**
 * Whether the target may hold back the head of an answer, at that monotonic time: before a client of HTTP/2 nginx (1.22)
 * keeps one without a body, as a watch has it, until it sends more. client-node waits for the head before it goes on.
 */
export function mayBeHeldBack(stream: Pick<Stream, "status" | "request">, now: number): boolean {
  return stream.status === 0 && now - stream.request.started >= quiet;
}

/** Whether a request may be sent twice. */
export function isHarmless(stream: Pick<Stream, "request">): boolean {
  const { method } = stream.request;
  return method === "GET" || method === "HEAD" || method === "OPTIONS";
}

/** The connector to ask once more with, when a 401 was for a token that has been replaced meanwhile. */
export function connectorToRetryWith(
  stream: Pick<Stream, "request" | "allowed" | "retried" | "interim">,
  status: number,
  current: ResolvedConnector | undefined,
): ResolvedConnector | undefined {
  const { allowed } = stream;
  if (status !== 401 || allowed === undefined || stream.retried || stream.interim > 0) return undefined;
  if (!isHarmless(stream) || allowed.head.body !== "none") return undefined;
  const used = allowed.connector.token;
  if (current?.token === undefined || used === undefined || current.token.equals(used)) return undefined;
  return current.target.url === allowed.connector.target.url ? current : undefined;
}

/** kubectl shows nothing of a 401 but its own words, which send people to look at their kubeconfig. */
export function tokenRefused(connector: ResolvedConnector): Field {
  const { namespace, name, target } = connector;
  const what = `The target cluster at ${target.authority} refuses the stored token of connector ${namespace}/${name}`;
  return warningField(`${what}; its admin should put a valid one into the Secret`);
}

export function warningField(sentence: string): Field {
  return plainField("warning", warningLine(sentence).slice("Warning: ".length));
}

export function answerCannotPass(stream: Pick<Stream, "allowed">, why: Refusal): Refusal {
  const target = `The target cluster at ${stream.allowed?.connector.target.authority ?? "its address"}`;
  return new Refusal(502, `${target} sent an answer that cannot pass. ${why.message}`, why);
}

export function closedEarly(stream: Pick<Stream, "allowed">): Refusal {
  const target = `The target cluster at ${stream.allowed?.connector.target.authority ?? "its address"}`;
  return new Refusal(502, `${target} closed the connection before it answered`);
}

/** What a client is told when the target has reset its stream; of what is between us and the target it hears nothing. */
export function errorToPassOn(code: number): ErrorName {
  if (code === errorCodes.REFUSED_STREAM) return "REFUSED_STREAM";
  if (code === errorCodes.CANCEL) return "CANCEL";
  return code === errorCodes.ENHANCE_YOUR_CALM ? "ENHANCE_YOUR_CALM" : "INTERNAL_ERROR";
}
