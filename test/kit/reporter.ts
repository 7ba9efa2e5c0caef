import { appendFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/**
 * Ends the output with the plain line `N passed, N failed`, and adds the counts to the file KUBE_CONNECTOR_TALLY, so that
 * a run of several parts can add them up: a line `N N N` (passed, failed, skipped), and before it a line `failed: …` for
 * each failure, so that the end of a long output still says what failed. A file that could not be loaded counts as failed.
 */
export default class PlainReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly { message: string }[]): void {
    let passed = 0;
    let skipped = 0;
    const failures = unhandled.map((error) => `an error outside any test: ${firstLine(error)}`);
    for (const module of modules) {
      for (const error of module.errors()) failures.push(`${module.relativeModuleId}: ${firstLine(error)}`);
      for (const test of module.children.allTests()) {
        const { state, errors } = test.result();
        if (state === "passed") passed += 1;
        else if (state === "failed") {
          failures.push(`${module.relativeModuleId} > ${test.fullName}: ${firstLine(errors[0])}`);
        } else skipped += 1;
      }
    }
    const tally = process.env.KUBE_CONNECTOR_TALLY;
    if (tally !== undefined) {
      const lines = [...failures.map((failure) => `failed: ${failure}`), `${passed} ${failures.length} ${skipped}`];
      appendFileSync(tally, `${lines.join("\n")}\n`);
    }
    console.log(`${passed} passed, ${failures.length} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  }
}

function firstLine(error: { message: string } | undefined): string {
  return (error?.message.split("\n", 1)[0] ?? "no error was reported").slice(0, 300);
}
