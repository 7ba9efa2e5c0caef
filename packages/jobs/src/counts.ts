/** What the engine tells while it works. */
export interface JobsCounts {
  submitted(result: "accepted" | "found" | "refused", seconds: number): void;
  /** Of a call to a cluster; `code` 0 without an answer. */
  asked(verb: string, resource: string, code: number): void;
  /** From the time that the API server wrote to the time that we saw it. */
  saw(lagSeconds: number): void;
  relisted(): void;
  gap(reason: string): void;
}

export const noCounts: JobsCounts = { submitted() {}, asked() {}, saw() {}, relisted() {}, gap() {} };
