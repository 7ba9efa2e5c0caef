import type { Clock } from "@kube-connector/core";
import type { Pool, UpstreamConnection, UpstreamUser } from "./upstream.ts";

/** Milliseconds that it waits for its client's first request. */
const patience = 10_000;

type State =
  | { name: "dialling"; connection: Promise<UpstreamConnection> }
  | { name: "ready"; connection: UpstreamConnection }
  | { name: "over" };

/**
 * A connection to the target that is made while its client still shakes hands with us, so that the first request finds it
 * ready. It is for that client alone: nobody else gets it, and it ends with its client when it was not used.
 */
export class AheadConnection implements UpstreamUser {
  readonly #pool: Pool;
  readonly #abort = new AbortController();
  readonly #cancelTimer: () => void;
  readonly #onOver: () => void;
  #state: State;

  /** `onOver` is called once, when it does not wait any more. */
  constructor(pool: Pool, clock: Clock, onOver: () => void) {
    this.#pool = pool;
    this.#onOver = onOver;
    const connection = pool.dial(this, this.#abort.signal);
    this.#state = { name: "dialling", connection };
    this.#cancelTimer = clock.after(patience, () => this.close());
    connection.then(
      (ready) => {
        if (this.#state.name === "dialling") this.#state = { name: "ready", connection: ready };
      },
      // Whoever waits for it hears of that; nobody else needs to.
      () => this.#end(),
    );
  }

  /** The connection, for its client's first request, or soon; undefined when there is none, or not of that pool. */
  take(pool: Pool, user: UpstreamUser): UpstreamConnection | Promise<UpstreamConnection> | undefined {
    const state = this.#state;
    if (state.name === "over") return undefined;
    if (pool !== this.#pool) {
      this.close();
      return undefined;
    }
    this.#end();
    const handOver = (connection: UpstreamConnection) => {
      connection.lease(user);
      return connection;
    };
    if (state.name === "dialling") return state.connection.then(handOver);
    if (state.connection.isUsable) return handOver(state.connection);
    state.connection.destroy();
    return undefined;
  }

  /** Ends it, unless it was taken. */
  close(): void {
    const state = this.#state;
    if (state.name === "over") return;
    this.#end();
    this.#abort.abort();
    if (state.name === "ready") state.connection.destroy();
    else state.connection.then((late) => late.destroy()).catch(() => undefined);
  }

  #end(): void {
    if (this.#state.name === "over") return;
    this.#state = { name: "over" };
    this.#cancelTimer();
    this.#onOver();
  }

  // Nothing has been asked, so nothing may come.

  upstreamData(): void {
    this.close();
  }

  upstreamEnded(): void {
    this.close();
  }

  upstreamClosed(): void {
    this.#end();
  }

  upstreamDrained(): void {}
}
