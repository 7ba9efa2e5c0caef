// The jobs module as a process of its own, so that a test can kill it: node jobs-main.ts {"connector", "folder"}. It says
// "ready" once it has begun, then answers each line of standard input, a definition, with the run's id.
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Secret, silentLog } from "@kube-connector/core";
import { type ConnectorConfig, openStore, startJobs } from "@kube-connector/jobs";

const { connector, folder } = JSON.parse(process.argv[2] ?? "{}") as { connector: ConnectorConfig; folder: string };
const store = await openStore(new Secret(join(folder, "jobs.db")), { log: silentLog });
const jobs = await startJobs({
  connectors: [connector],
  store,
  logs: join(folder, "logs"),
  log: silentLog,
  // So that the next one need not wait for half a minute.
  leaseSeconds: 1,
});
// Timers of the engine keep no process alive.
setInterval(() => undefined, 60_000);
process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
  const { run } = await jobs.submit(JSON.parse(line));
  process.stdout.write(`${run.id}\n`);
}
