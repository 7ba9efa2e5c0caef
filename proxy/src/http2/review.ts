import { isNo, passGateAgain } from "../gate.ts";
import type { RelayCore } from "./core.ts";
import type { Stream } from "./stream.ts";

/** Asks again whether the caller of an open stream may have it, and ends it when not. */
export function reviewStream(relay: RelayCore, stream: Stream, now: number): void {
  const { request } = stream;
  const { timeouts, log } = relay.collaborators;
  request.askedAt = now;
  const connector = relay.currentConnector();
  if (connector === undefined || request.sender === undefined) {
    relay.breakOff(stream, "CANCEL");
    return;
  }
  passGateAgain(request.sender, connector, relay.collaborators).then(
    () => {
      request.allowedAt = relay.now();
    },
    (error: unknown) => {
      if (stream.phase !== "open") return;
      if (!isNo(error) && relay.now() - request.allowedAt < timeouts.reviewGrace) return;
      const fields = { connector: relay.admitted.key, method: request.method, path: request.path, error };
      log.info("A stream was ended because its caller may not have it any more", fields);
      relay.breakOff(stream, "CANCEL");
    },
  );
}
