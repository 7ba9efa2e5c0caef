import type { TLSSocket } from "node:tls";
import { callerFields, type OpenStream, secondsSince } from "../open-streams.ts";
import type { Admitted } from "./request.ts";
import type { State } from "./state.ts";

type Waiting = Pick<OpenStream, "state" | "waitsFor">;

/** One client connection as /debug/streams shows it. `opened` and `now` in monotonic milliseconds. */
export function openStreamOf(
  state: State,
  connection: { socket: TLSSocket; admitted: Admitted; opened: number },
  now: number,
): OpenStream {
  const { door, key, remote } = connection.admitted;
  const of = { connector: key, door, protocol: "http/1.1" as const, remote };
  if (!("request" in state)) return { ...of, seconds: secondsSince(connection.opened, now), ...waitingOf(state) };
  const { id, method, path, sender, started } = state.request;
  const request = { id, method, path, ...callerFields(sender?.caller), seconds: secondsSince(started, now) };
  if (state.name === "deciding") return { ...of, ...request, state: "who and may they", waitsFor: "review" };
  if (state.name === "spliced") {
    const { in: bytesIn, out: bytesOut } = state.splice.counts;
    return { ...of, ...request, bytesIn, bytesOut, ...splicing(connection.socket, state.splice.target) };
  }
  const { bytesIn, bytesOut } = state.exchange;
  return { ...of, ...request, bytesIn, bytesOut, ...exchanging(state.exchange, connection.socket) };
}

function waitingOf(state: State): Waiting {
  if (state.name !== "waiting") return { state: "closing", waitsFor: "client" };
  return { state: state.begun ? "half a request head" : "between requests", waitsFor: "client" };
}

function exchanging(exchange: (State & { name: "exchanging" })["exchange"], client: TLSSocket): Waiting {
  if (exchange.phase === "dialling") return { state: "connecting to the target", waitsFor: "target" };
  if (exchange.phase === "awaitingHead") {
    const isSending = exchange.takesBody && !client.isPaused();
    return isSending ? { state: "request body", waitsFor: "client" } : { state: "no answer yet", waitsFor: "target" };
  }
  return { state: "answering", waitsFor: client.writableNeedDrain ? "client" : "target" };
}

function splicing(client: TLSSocket, target: TLSSocket): Waiting {
  const waitsFor = client.writableNeedDrain ? "client" : target.writableNeedDrain ? "target" : "both";
  return { state: "upgraded", waitsFor };
}
