import type { Clock } from "@kube-connector/core";
import { Refusal } from "../answers.ts";
import { createAuditFormat } from "./event.ts";
import type { AuditRecord } from "./record.ts";
import type { AuditSink } from "./sink.ts";

/** What the data path tells, and asks before it passes anything on. */
export interface Audit {
  record(record: AuditRecord): void;
  /** Refusal: 503 while events cannot be kept. Nothing passes unseen. */
  check(): void;
}

/** Keeps nothing, and lets all pass: only where nobody wants an audit log. */
export const noAudit: Audit = { record() {}, check() {} };

/** At which level the process log has what the audit log has too. */
export function levelBeside(audit: Audit): "info" | "debug" {
  return audit === noAudit ? "info" : "debug";
}

/** An audit log that writes to that sink. */
export function createAudit(sink: Pick<AuditSink, "write" | "whyDown">, clock: Clock): Audit {
  const format = createAuditFormat();
  return {
    record: (record) => sink.write(format(record, clock.now())),
    check() {
      const why = sink.whyDown();
      if (why !== undefined) throw new Refusal(503, `${why}, and nothing passes without it; try again`);
    },
  };
}
