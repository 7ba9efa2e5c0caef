import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { type Connection, type Message, type Reader, type Reading, sortedLines } from "./reading.ts";

/** Builds the Go program where that has not been done; answers its path. */
export async function buildGoReader(): Promise<string> {
  const { stdout } = await promisify(execFile)(join(import.meta.dirname, "build.sh"));
  return stdout.trim();
}

/** Go's net/http in a process of its own. */
export function startGoReader(program: string): Reader & AsyncDisposable {
  const go = spawn(program, { stdio: ["pipe", "pipe", "inherit"] });
  const waiting = new Map<number, { resolve(reading: Reading): void; reject(error: Error): void }>();
  let last = 0;
  createInterface({ input: go.stdout }).on("line", (line) => {
    const { id, left, ...found } = JSON.parse(line) as Reading & { id: number; left: number };
    const messages = found.messages.map(normalised);
    const refused = found.refused === "" && left > 0 ? `${left} bytes are left` : found.refused;
    waiting.get(id)?.resolve({ ...found, messages, refused });
    waiting.delete(id);
  });
  go.stdin.on("error", () => undefined); // "close" follows
  const closed = once(go, "close");
  go.once("close", () => {
    for (const one of waiting.values()) one.reject(new Error("Go's reader has ended"));
  });
  return {
    name: "Go's net/http",
    lenient: false,
    read: (connection) =>
      new Promise((resolve, reject) => {
        last += 1;
        waiting.set(last, { resolve, reject });
        go.stdin.write(recordOf(last, connection));
      }),
    async [Symbol.asyncDispose]() {
      go.stdin.end();
      await closed;
    },
  };
}

/** As framer-peer/main.go reads it. */
function recordOf(id: number, { kind, method, bytes, cut }: Connection): Buffer {
  const record = Buffer.allocUnsafe(14 + method.length + bytes.length);
  let at = record.writeUInt32BE(id, 0);
  at = record.writeUInt8(kind === "requests" ? 0x51 : 0x41, at);
  at = record.writeUInt8(cut ? 1 : 0, at);
  for (const piece of [method, bytes]) {
    at = record.writeUInt32BE(piece.length, at);
    at += record.write(piece, at, "latin1");
  }
  return record;
}

function normalised(message: Message): Message {
  return { ...message, headers: sortedLines(message.headers), trailers: sortedLines(message.trailers) };
}
