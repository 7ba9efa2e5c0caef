import { isTerminal, type RunRecord } from "@kube-connector/jobs";
import { age, oneLine, writeTo } from "./print.ts";

/** Milliseconds between two redraws. */
const redrawEvery = 100;

/** Where a run stands, for a person: on one line that is redrawn in a terminal, else a line for each change. */
export interface ProgressLine {
  show(run: RunRecord): void;
  /** Takes the line away. */
  clear(): void;
  /** Takes the line away while something else is printed to the same terminal. */
  around(print: () => unknown): void;
  stop(): void;
}

interface Terminal {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

export function createProgressLine(terminal: Terminal, now: () => number): ProgressLine {
  const write = writeTo(terminal);
  let last = "";
  let drawn = false;
  let current: RunRecord | undefined;
  const clear = () => {
    if (drawn) terminal.write("\r\u001b[K");
    drawn = false;
  };
  const draw = () => {
    if (current === undefined) return;
    const text = describe(current, now());
    clear();
    write(text.slice(0, (terminal.columns || 80) - 1));
    drawn = true;
  };
  const timer = terminal.isTTY === true ? setInterval(draw, redrawEvery) : undefined;
  timer?.unref();
  return {
    show(run) {
      current = run;
      if (terminal.isTTY === true) return;
      const line = describe(run);
      if (line !== last) write(`${line}\n`);
      last = line;
    },
    clear() {
      clearInterval(timer);
      clear();
      current = undefined;
    },
    around(print) {
      clear();
      print();
    },
    stop() {
      clearInterval(timer);
      clear();
      if (terminal.isTTY === true && current !== undefined) write(`${describe(current)}\n`);
      current = undefined;
    },
  };
}

/** `Running 2 active, 3 of 5 done, 1 failed (42s)`. */
export function describe(run: RunRecord, now?: number): string {
  const { state, progress, diagnosis, message, stale } = run;
  const { active, succeeded, failed, completions } = progress;
  const counts = [
    ...(active > 0 && !isTerminal(state) ? [`${active} active`] : []),
    ...(completions === null || completions > 1 || succeeded > 0
      ? [completions === null ? `${succeeded} done` : `${succeeded} of ${completions} done`]
      : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
  ];
  // Of what went well, the Job controller's own words say nothing more.
  const why = diagnosis?.message ?? (message?.startsWith("Reached expected number") ? undefined : message);
  const hint = diagnosis === undefined ? "" : `. ${diagnosis.hint}`;
  const parts = [
    stateOf(run),
    counts.join(", "),
    stale ? "the cluster cannot be reached at the moment" : "",
    now === undefined ? "" : age(now - Date.parse(run.startedAt ?? run.createdAt)),
  ].filter((part) => part !== "");
  return oneLine(`${parts.join(" · ")}${why === undefined ? "" : `: ${why.replace(/\.$/, "")}${hint}`}`);
}

/** `Failed (BackoffLimitExceeded)`: the state, with its reason where that says more. */
export function stateOf({ state, reason }: Pick<RunRecord, "state" | "reason">): string {
  return ["", state, "CompletionsReached", "JobSuspended"].includes(reason) ? state : `${state} (${reason})`;
}
