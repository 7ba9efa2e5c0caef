import { Refusal } from "../answers.ts";
import type { RelayCore } from "./core.ts";
import type { Stream } from "./stream.ts";

/**
 * For a drain: ends an answer without a length as if the target had ended it; a watch that ends so is taken up again by its
 * client. A read that has no answer yet gets a 503, which its client tries again; all else is broken off. False while a
 * frame of it is on its way, or waits for its client. `isWhole`: none is.
 */
export function endStreamCleanly(relay: RelayCore, stream: Stream, isWhole: boolean): boolean {
  const { request, toClient } = stream;
  if (stream.phase === "own") return true;
  request.endedBy ??= "Draining";
  if (stream.status > 0 && stream.answerLeft < 0) {
    if (!isWhole || toClient.queued > 0) return false;
    toClient.finish();
  } else if (stream.status === 0 && stream.interim === 0 && (request.method === "GET" || request.method === "HEAD")) {
    relay.refuse(stream, new Refusal(503, "The proxy is stopping; try again"));
    return true;
  }
  relay.breakOff(stream, "CANCEL");
  return true;
}
