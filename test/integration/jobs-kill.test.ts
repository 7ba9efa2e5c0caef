// The process is killed in the middle of a run, again and again, and started again: no second Job, no lost or doubled line,
// no Job left behind, and the right end. `make soak` does it thirty times.
import { test } from "vitest";
import { killInRoom } from "../kit/jobs-kills.ts";

test("killed at random moments, every run ends right, once, with every line", () => killInRoom(8), 600_000);
