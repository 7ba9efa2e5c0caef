import { resolve } from "node:path";
import { Fault, value } from "@kube-connector/core";
import { startJobsService } from "@kube-connector/jobs";
import type { SessionFlags } from "./commands.ts";
import { type Env, openParts, readText } from "./session.ts";

/** `jobs serve`: until it is asked to stop. */
export async function serveCommand(
  flags: SessionFlags & { listen: string; tokenFile?: string; tlsCert?: string; tlsKey?: string },
  signal: AbortSignal,
  env: Env,
): Promise<number> {
  if (flags.server !== undefined)
    throw new Fault("invalid_argument", "jobs serve is a server itself: leave --server out");
  if (flags.tokenFile === undefined) {
    throw new Fault(
      "invalid_argument",
      "jobs serve needs --token-file with a file that holds the token its callers show",
    );
  }
  if ((flags.tlsCert === undefined) !== (flags.tlsKey === undefined)) {
    throw new Fault("invalid_argument", "--tls-cert and --tls-key belong together");
  }
  let listen: { host: string; port: number };
  try {
    listen = value.listen(flags.listen);
  } catch (error) {
    throw new Fault("invalid_argument", `--listen: ${error instanceof Error ? error.message : ""}`);
  }
  const { tlsCert, tlsKey } = flags;
  for (const file of [flags.tokenFile, tlsCert, tlsKey]) if (file !== undefined) await readText(file);
  const opened = await openParts(flags, env);
  try {
    const service = await startJobsService({
      ...opened.parts,
      listen,
      tokenFile: resolve(flags.tokenFile),
      ...(tlsCert === undefined || tlsKey === undefined ? {} : { tls: { certificate: tlsCert, key: tlsKey } }),
    });
    const names = opened.parts.connectors.map(({ name }) => name);
    process.stdout.write(`Serving ${names.join(", ")} on ${service.url}\n`);
    await new Promise<void>((ended) => {
      if (signal.aborted) ended();
      signal.addEventListener("abort", () => ended(), { once: true });
    });
    await service.stop();
    return 0;
  } finally {
    await opened.close();
  }
}
