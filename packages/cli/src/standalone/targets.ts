import { probeTarget } from "@kube-connector/controller";
import type { Clock, Log } from "@kube-connector/core";
import type { Say } from "../terminal.ts";
import type { Resolved } from "./resolver.ts";

/** One look at a target: what it answers, or why it cannot be used as a sentence that says what to change. */
export async function tryTarget({ connector }: Resolved, clock: Clock): Promise<{ ok: boolean; sentence: string }> {
  const { target, tls, token } = connector;
  if (token === undefined) return { ok: false, sentence: connector.unavailable ?? "There is no token." };
  const { liveness, auth, version } = await probeTarget(
    {
      target,
      tls,
      token,
      expiresAt: undefined,
      paths: { liveness: "/livez", auth: "/api" },
      timeout: 5000,
      className: "k8s",
    },
    { allowLoopback: true, now: () => clock.now() },
  );
  const failed = [liveness, auth].find((verdict) => verdict?.status === "False");
  if (failed !== undefined) return { ok: false, sentence: failed.message };
  const warning = liveness.reason === "InsecureSkipVerify" ? ` ${liveness.message}` : "";
  return { ok: true, sentence: `answers${version === undefined ? "" : `, Kubernetes ${version}`}.${warning}` };
}

/** Tells the person how each target is. One that cannot be used is no reason to end: it, or the files, may be mended. */
export async function sayTargets(
  connectors: readonly [string, Resolved][],
  { clock, log, say }: { clock: Clock; log: Log; say: Say },
): Promise<void> {
  await Promise.all(
    connectors.map(async ([key, resolved]) => {
      try {
        const { ok, sentence } = await tryTarget(resolved, clock);
        say(ok ? `${key} ${sentence}` : `! ${key}: ${sentence}`);
      } catch (error) {
        log.warn("A target could not be tried", { connector: key, error });
      }
    }),
  );
}
