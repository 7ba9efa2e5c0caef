import { callerFields, type OpenStream, secondsSince } from "../open-streams.ts";
import type { Admitted } from "../http1/request.ts";
import type { Stream } from "./stream.ts";

type Waiting = Pick<OpenStream, "state" | "waitsFor">;

/** One stream as /debug/streams shows it. `now` in monotonic milliseconds. */
export function openStreamOf(stream: Stream, admitted: Admitted, now: number): OpenStream {
  return shownStream(stream, waiting(stream), { admitted, now });
}

/** A stream, whoever carries it, and what it waits for. */
export function shownStream(
  stream: Pick<Stream, "request" | "outcome">,
  waits: Waiting,
  { admitted, now }: { admitted: Admitted; now: number },
): OpenStream {
  const { door, key, remote } = admitted;
  const { id, method, path, sender, started } = stream.request;
  const { bytesIn, bytesOut } = stream.outcome;
  const of = { id, connector: key, door, protocol: "h2" as const, remote, method, path, bytesIn, bytesOut };
  return { ...of, ...callerFields(sender?.caller), seconds: secondsSince(started, now), ...waits };
}

function waiting(stream: Stream): Waiting {
  const { phase, toTarget, toClient, clientEnded } = stream;
  if (phase === "deciding") return { state: "who and may they", waitsFor: "review" };
  if (phase === "waiting") return { state: "connecting to the target", waitsFor: "target" };
  if (phase === "own") return { state: "closing", waitsFor: "client" };
  if (stream.status > 0) {
    return { state: "answering", waitsFor: toClient.queued > 0 || toClient.granted <= 0 ? "client" : "target" };
  }
  if (!clientEnded && toTarget.granted > 0) return { state: "request body", waitsFor: "client" };
  return { state: "no answer yet", waitsFor: "target" };
}
