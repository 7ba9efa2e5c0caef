import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { ConnectorConfig } from "@kube-connector/jobs";

const main = fileURLToPath(new URL("jobs-main.ts", import.meta.url));

/** The jobs module as a process of its own. */
export interface JobsProcess {
  /** Sends a definition; answers with the run's id. */
  say(definition: object): Promise<string>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

/** Processes of the module on one folder; those that live at the end are killed. */
export function createJobsProcesses(on: { connector: ConnectorConfig; folder: string }) {
  const children = new Set<ChildProcess>();
  return {
    /** Ends once it has begun. */
    async launch(): Promise<JobsProcess> {
      const child = spawn(process.execPath, [main, JSON.stringify(on)], { stdio: ["pipe", "pipe", "inherit"] });
      children.add(child);
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const next = async () => String((await lines.next()).value);
      const first = await next();
      if (first !== "ready") throw new Error(`the process of the jobs module said: ${first}`);
      return {
        say(definition) {
          child.stdin.write(`${JSON.stringify(definition)}\n`);
          return next();
        },
        async kill() {
          children.delete(child);
          const gone = new Promise((resolve) => child.once("exit", resolve));
          child.kill("SIGKILL");
          await gone;
        },
      };
    },
    [Symbol.dispose]() {
      for (const child of children) child.kill("SIGKILL");
    },
  };
}
