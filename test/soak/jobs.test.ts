// The process of the jobs module is killed at thirty random moments: each run ends right, once, with every line of its log.
import { test } from "vitest";
import { killInRoom } from "../kit/jobs-kills.ts";

test("killed at thirty random moments, every run of a Job ends right, once, with every line", () => killInRoom(30));
