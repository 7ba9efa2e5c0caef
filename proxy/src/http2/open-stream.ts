import { callerFields, type OpenStream, secondsSince } from "../open-streams.ts";
import type { Admitted } from "../http1/request.ts";
import type { Stream } from "./stream.ts";

/** One stream as /debug/streams shows it. `now` in monotonic milliseconds. */
export function openStreamOf(stream: Stream, { door, key, remote }: Admitted, now: number): OpenStream {
  const { id, method, path, sender, started } = stream.request;
  const { bytesIn, bytesOut } = stream.outcome;
  const of = { id, connector: key, door, protocol: "h2" as const, remote, method, path, bytesIn, bytesOut };
  return { ...of, ...callerFields(sender?.caller), seconds: secondsSince(started, now), ...waiting(stream) };
}

function waiting(stream: Stream): Pick<OpenStream, "state" | "waitsFor"> {
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
