import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { ClientsStart, FromClients, Tally, ToClients } from "./messages.ts";

// The processes of clients, as one.

export interface Crowd {
  /** Everything since the start. */
  tally: Tally;
  work(): void;
  /** Ends when every client has come to rest. */
  rest(): Promise<void>;
  tell(message: ToClients): void;
  /** Rejects when one of them ends by itself. */
  died: Promise<never>;
  stop(): Promise<void>;
}

const main = fileURLToPath(new URL("./clients-main.ts", import.meta.url));
/** Sentences of one kind that are kept. */
const kept = 50;

export function startCrowd(starts: readonly ClientsStart[]): Crowd {
  const tally: Tally = { counts: {}, lost: [], mixedUp: [], bytes: 0 };
  const resting = new Set<() => void>();
  let stopping = false;
  let die: (error: Error) => void = () => undefined;
  const died = new Promise<never>((_, reject) => (die = reject));
  const children = starts.map((start) => {
    const child = fork(main, [], { stdio: "inherit" });
    child.on("message", (message: FromClients) => {
      if ("resting" in message) for (const one of resting) one();
      else add(tally, message.tally);
    });
    const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
    child.once("close", (status, signal) => {
      if (!stopping) die(new Error(`clients ended with ${status ?? signal}`));
    });
    child.send({ start } satisfies ToClients);
    return { child, ended };
  });
  const tell = (message: ToClients) => {
    for (const { child } of children) if (child.connected) child.send(message, () => undefined);
  };
  return {
    tally,
    tell,
    died,
    work: () => tell({ work: true }),
    async rest() {
      let left = children.length;
      await new Promise<void>((resolve) => {
        const one = () => {
          left -= 1;
          if (left > 0) return;
          resting.delete(one);
          resolve();
        };
        resting.add(one);
        tell({ work: false });
      });
    },
    async stop() {
      stopping = true;
      for (const { child } of children) child.kill("SIGKILL");
      await Promise.all(children.map(({ ended }) => ended));
    },
  };
}

function add(to: Tally, more: Tally): void {
  for (const [what, times] of Object.entries(more.counts)) to.counts[what] = (to.counts[what] ?? 0) + times;
  for (const list of ["lost", "mixedUp"] as const) to[list].push(...more[list].slice(0, kept - to[list].length));
  to.bytes += more.bytes;
}
