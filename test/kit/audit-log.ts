import { systemClock } from "@kube-connector/core";
import { type Audit, createAudit } from "@kube-connector/proxy";

/** One line of an audit log, as far as tests look at it. */
export interface AuditEvent {
  auditID: string;
  stage: string;
  requestURI: string;
  verb: string;
  user: { username?: string; uid?: string; groups?: string[] };
  sourceIPs: string[];
  objectRef?: Record<string, string>;
  responseStatus?: { code: number; status?: string; reason?: string; message?: string };
  requestReceivedTimestamp: string;
  stageTimestamp: string;
  annotations: Record<string, string>;
}

/** An audit log in memory; `down` makes it one that cannot be written. */
export interface TestAudit extends Audit {
  down: string | undefined;
  lines: string[];
  events(): AuditEvent[];
  /** Ends when there are so many lines, with all of them. */
  until(count: number): Promise<AuditEvent[]>;
}

export function createTestAudit(): TestAudit {
  const lines: string[] = [];
  const state = { down: undefined as string | undefined };
  const audit = createAudit(
    { write: (line) => void lines.push(line.toString()), whyDown: () => state.down },
    systemClock,
  );
  const events = () => lines.map((line) => JSON.parse(line) as AuditEvent);
  return Object.assign(state, audit, {
    lines,
    events,
    async until(count: number) {
      const end = performance.now() + 5_000;
      while (lines.length < count) {
        if (performance.now() > end) throw new Error(`${lines.length} lines, not ${count}: ${lines.join("")}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return events();
    },
  });
}

/** One of our own annotations. */
export function own(event: AuditEvent | undefined, name: string): string | undefined {
  return event?.annotations[`proxy.connectors.cpaas.io/${name}`];
}
