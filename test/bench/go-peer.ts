import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Builds the Go clients and targets, if that has not been done; the path of their program. */
export function buildGoPeer(): string {
  return execFileSync(fileURLToPath(new URL("go-peer/build.sh", import.meta.url)), { encoding: "utf8" }).trim();
}
