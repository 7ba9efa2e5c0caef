// What `make soak` is told: DURATION in seconds, SEED, and SNAPSHOTS, a folder for heap snapshots.

/** Tokens of callers are good for an hour. */
const longest = 3_000;

export interface Settings {
  seconds: number;
  seed: number;
  snapshots: string | undefined;
}

export function readSettings(): Settings {
  const { DURATION = "600", SEED = String(Date.now() % 1_000_000), SNAPSHOTS } = process.env;
  const [seconds, seed] = [Number(DURATION), Number(SEED)];
  if (!Number.isInteger(seconds) || seconds < 20 || seconds > longest) {
    throw new Error(`DURATION=${DURATION} should be seconds, from 20 to ${longest}`);
  }
  if (!Number.isInteger(seed)) throw new Error(`SEED=${SEED} should be a whole number`);
  return { seconds, seed, snapshots: SNAPSHOTS === "" ? undefined : SNAPSHOTS };
}
