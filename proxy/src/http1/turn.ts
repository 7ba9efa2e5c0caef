import type { TLSSocket } from "node:tls";

/** What is held until the end of this turn of the event loop. */
let held: TLSSocket[] = [];

/**
 * Holds what is written to a target until the end of this turn of the event loop: what has come of a body goes out with its
 * head, and a target that is woken by the first of many requests finds the others without sleeping in between. Answers are
 * not held: their clients are many processes, and the cork cost more than it saved.
 */
export function holdForTurn(socket: TLSSocket): void {
  if (socket.writableCorked > 0) return;
  socket.cork();
  if (held.push(socket) === 1) setImmediate(letGo);
}

function letGo(): void {
  const sockets = held;
  held = [];
  for (const socket of sockets) socket.uncork();
}
