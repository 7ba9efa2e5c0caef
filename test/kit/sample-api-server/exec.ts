import type { IncomingMessage } from "node:http";
import { PassThrough, type Duplex, Writable } from "node:stream";
import { runCommand } from "./shell.ts";
import { acceptWebSocket, type WebSocketConnection } from "./websocket.ts";

// `kubectl exec` over a WebSocket, sub-protocols v4 and v5 of channel.k8s.io: the first byte of a message is its
// channel; v5 closes one with 255 and its number. k8s.io/apimachinery/pkg/util/remotecommand/constants.go.
const channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, close: 255 } as const;
const protocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/** Runs the command that the query names. Answers false when the client speaks no WebSocket that we know. */
export function answerExec(
  request: IncomingMessage,
  socket: Duplex,
  { head, host, query }: { head: Buffer; host: string; query: URLSearchParams },
): boolean {
  const connection = acceptWebSocket(request, socket, head, protocols);
  if (connection === undefined) return false;
  run(connection, { host, query })
    .catch(() => undefined)
    .finally(() => connection.close());
  return true;
}

async function run(connection: WebSocketConnection, { host, query }: { host: string; query: URLSearchParams }) {
  const stdin = new PassThrough({ highWaterMark: 1024 * 1024 });
  if (query.get("stdin") !== "true") stdin.end();
  const reading = readInput(connection, stdin);
  reading.catch(() => stdin.destroy());
  const status = await runCommand(query.getAll("command"), {
    stdin,
    stdout: output(connection, channel.stdout),
    stderr: output(connection, query.get("tty") === "true" ? channel.stdout : channel.stderr),
    host,
    tty: query.get("tty") === "true",
  });
  stdin.destroy();
  await connection.send(Buffer.concat([Buffer.from([channel.error]), Buffer.from(JSON.stringify(outcome(status)))]));
}

async function readInput(connection: WebSocketConnection, stdin: PassThrough): Promise<void> {
  stdin.on("error", () => undefined);
  for await (const message of connection.messages) {
    if (message[0] === channel.close && message[1] === channel.stdin) stdin.end();
    if (message[0] !== channel.stdin || message.length < 2 || stdin.destroyed || stdin.writableEnded) continue;
    if (stdin.write(message.subarray(1))) continue;
    await new Promise<void>((resolve) => {
      stdin.once("drain", resolve);
      stdin.once("close", resolve);
    });
  }
  stdin.end();
}

function output(connection: WebSocketConnection, number: number): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      connection.send(Buffer.concat([Buffer.from([number]), chunk])).then(() => done(), done);
    },
  });
}

function outcome(status: number): unknown {
  if (status === 0) return { metadata: {}, status: "Success" };
  return {
    metadata: {},
    status: "Failure",
    reason: "NonZeroExitCode",
    message: `command terminated with non-zero exit code: exit status ${status}`,
    details: { causes: [{ reason: "ExitCode", message: String(status) }] },
  };
}
