import { reviewRequest } from "../http1/review.ts";
import type { RelayCore } from "./core.ts";
import type { Stream } from "./stream.ts";

/** Asks again whether the caller of an open stream may have it, and ends it when not. */
export async function reviewStream<S extends Pick<Stream, "request" | "phase">>(
  relay: Pick<RelayCore, "admitted" | "collaborators" | "currentConnector"> & {
    breakOff(stream: S, code: "CANCEL", why: string): void;
  },
  stream: S,
  now: number,
): Promise<void> {
  const { request } = stream;
  request.askedAt = now;
  const no = await reviewRequest(request, relay.currentConnector(), relay.collaborators);
  if (no === undefined || stream.phase !== "open") return;
  const fields = { connector: relay.admitted.key, method: request.method, path: request.path, error: no.error };
  relay.collaborators.log.info("A stream was ended because its caller may not have it any more", fields);
  relay.breakOff(stream, "CANCEL", no.why);
}
