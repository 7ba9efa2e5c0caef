import { Fault } from "@kube-connector/core";

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

/**
 * 26 characters of Crockford base32 in lower case: 10 for the time in milliseconds, 16 random, so that ids sort by time.
 * https://github.com/ulid/spec
 */
export function createRunId(now: number, random: (size: number) => Uint8Array): string {
  let time = "";
  for (let rest = now, at = 0; at < 10; at++) {
    time = `${alphabet[rest % 32]}${time}`;
    rest = Math.floor(rest / 32);
  }
  return time + Array.from(random(16), (byte) => alphabet[byte % 32]).join("");
}

/** Whether that is a run's id, in its only spelling. */
export function isRunId(text: string): boolean {
  return /^[0-7][0-9a-hjkmnp-tv-z]{25}$/.test(text);
}

/** A `not_found` Fault; for what cannot be an id it says where ids come from. */
export function noSuchRun(id: string): Fault {
  const hint = isRunId(id) ? "" : "; a run goes by the id that a list of runs shows";
  return new Fault("not_found", `There is no run ${id.slice(0, 64)} in this history${hint}`);
}
