import { Fault, faults } from "./fault.ts";
import { describeError } from "./log.ts";

/** What was started by a `startX()`. */
export interface Running {
  /** Ends when the thing has ended, by `stop` or by itself; rejects when it failed. */
  done: Promise<void>;
  /** Asks it to end, and waits until it has. Calling it twice is fine. */
  stop(): Promise<void>;
}

/** Stops all, in reverse order, even when one of them fails; then throws the first failure. */
export async function stopAll(running: readonly (Running | undefined)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const one of running.toReversed()) {
    await one?.stop().catch((error: unknown) => failures.push(error));
  }
  if (failures.length > 0) throw failures[0];
}

/**
 * Gives back what only the start needed, several MiB of a process at rest: V8 would keep it for as long as there is little to do.
 * Node lets us ask for that when it was started with --expose-gc, as in the images.
 */
function freeStart(): void {
  globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
}

/**
 * The life of a process: starts it, waits for its end or a signal, sets the exit status. SIGTERM and SIGINT ask it to
 * stop, a second one ends the process at once. A Fault at the start is printed as its sentence, with its exit status.
 */
export async function runMain(
  start: (argv: readonly string[], env: NodeJS.ProcessEnv) => Promise<Running>,
): Promise<void> {
  let running: Running | undefined;
  let asked = false;
  const onSignal = (signal: NodeJS.Signals) => {
    if (asked) process.exit(signal === "SIGINT" ? 130 : 143);
    asked = true;
    running?.stop().catch(fail);
  };
  const fail = (error: unknown) => {
    const fault = Fault.from(error, "The process failed");
    process.stderr.write(`${fault.message}\n`);
    if (fault.code === "internal") process.stderr.write(`${describeError(fault.cause ?? fault)}\n`);
    process.exitCode = faults[fault.code].exit;
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  try {
    running = await start(process.argv.slice(2), process.env);
    freeStart();
    if (asked) await running.stop();
    await running.done;
  } catch (error) {
    fail(error);
    await running?.stop().catch(() => undefined);
  } finally {
    process.off("SIGTERM", onSignal);
    process.off("SIGINT", onSignal);
  }
}
