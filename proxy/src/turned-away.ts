import type { Socket } from "node:net";
import type { Clock } from "@kube-connector/core";
import { connectAnswerText, type Refusal } from "./answers.ts";

/** Clients for which there is no place, and who are told so at the forward door, where a word costs no handshake. */
export interface TurnedAway {
  /** Answers the CONNECT that comes, whatever it says, and closes. */
  tell(socket: Socket, refusal: Refusal): void;
  stop(): void;
}

/** So many are told at a time; the rest is closed at once, or they would be what the limits are against. */
const most = 100;

/** `patience`: milliseconds that one has to ask and to close. */
export function createTurnedAway(options: { clock: Clock; patience: number }): TurnedAway {
  const sockets = new Set<Socket>();
  return {
    tell(socket, refusal) {
      if (sockets.size >= most) {
        socket.destroy();
        return;
      }
      sockets.add(socket);
      const cancel = options.clock.after(options.patience, () => socket.destroy());
      socket.once("close", () => {
        cancel();
        sockets.delete(socket);
      });
      // The rest of what comes is read and forgotten: closed with bytes unread, the client would lose the answer.
      socket.once("data", () => socket.end(connectAnswerText(refusal, { close: true })));
      socket.once("end", () => socket.end());
    },
    stop() {
      for (const socket of sockets) socket.destroy();
    },
  };
}
