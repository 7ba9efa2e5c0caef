import { requestAnswered } from "../http1/request.ts";
import type { RelayCore } from "./core.ts";
import { type AnswerHead, badAnswer } from "./message.ts";
import type { Stream } from "./stream.ts";
import { tokenRefused, warningField } from "./verdicts.ts";

/** Most interim (1xx) answers before the final one. */
export const interimLimit = 8;

/** Passes on a 1xx. Refusal: when there are too many, or nothing is to follow. */
export function passInterim(relay: RelayCore, stream: Stream, answer: AnswerHead, endStream: boolean): void {
  stream.interim += 1;
  if (endStream || stream.interim > interimLimit) throw badAnswer("it has too many interim answers, or only one");
  relay.client.writer.headers(stream.id, relay.client.encoder.encode(answer.headers), false);
}

/** Passes on the head of the final answer. Refusal: when its end contradicts its length. */
export function passHead(relay: RelayCore, stream: Stream, answer: AnswerHead, endStream: boolean): void {
  const { client } = relay;
  const bodiless = stream.request.method === "HEAD" || answer.status === 204 || answer.status === 304;
  stream.answerLeft = bodiless ? 0 : answer.length;
  if (endStream && stream.answerLeft > 0) throw badAnswer("it ends before its Content-Length");
  stream.status = answer.status;
  requestAnswered(stream.request, answer, stream.added);
  relay.announce(stream);
  const { headers } = answer;
  if (stream.allowed?.warning !== undefined) headers.push(warningField(stream.allowed.warning));
  if (stream.allowed !== undefined && answer.status === 401) headers.push(tokenRefused(stream.allowed.connector));
  client.writer.headers(stream.id, client.encoder.encode(headers), endStream);
  stream.allowed = undefined;
  stream.targetEnded = endStream;
  stream.toClient.open(stream.id, endStream);
}
