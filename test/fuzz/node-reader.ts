import { createServer, type IncomingMessage, request as httpRequest } from "node:http";
import { MemorySocket } from "./memory-socket.ts";
import { type Connection, type Lines, type Message, type Reader, type Reading, sortedLines } from "./reading.ts";

/** More than any input has; node:http's own limits are no matter of framing. */
const maxHeaderSize = 1 << 20;

/** node:http: its server for requests, its client for an answer. `lenient` is its insecureHTTPParser. */
export function createNodeReader(options: { lenient: boolean }): Reader {
  const { lenient } = options;
  const readings = new WeakMap<object, { messages: Message[]; refused: string }>();
  const server = createServer({ insecureHTTPParser: lenient, maxHeaderSize, requireHostHeader: false });
  server.maxHeadersCount = 0;
  server.on("request", (request, response) => {
    const reading = readings.get(request.socket);
    const collected = collect(request);
    reading?.messages.push(collected.message);
    collected.ended.finally(() => response.end()).catch(() => undefined);
  });
  server.on("clientError", (error: Error & { code?: string }, socket) => {
    const reading = readings.get(socket);
    if (reading !== undefined) reading.refused ||= error.code ?? error.message;
    // Not at once: what was read before may not have been told of yet.
    setImmediate(() => socket.destroy());
  });

  function readRequests({ bytes, cut }: Connection): Promise<Reading> {
    return new Promise((resolve) => {
      const socket = new MemorySocket();
      const reading = { messages: [] as Message[], refused: "" };
      readings.set(socket, reading);
      socket.once("close", () => resolve({ interim: [], ...reading }));
      server.emit("connection", socket);
      giveAll(socket, bytes, cut);
    });
  }

  function readAnswer({ bytes, cut, method }: Connection): Promise<Reading> {
    return new Promise((resolve) => {
      const socket = new MemorySocket();
      const interim: number[] = [];
      const messages: Message[] = [];
      const done = (refused: string) => {
        socket.destroy();
        resolve({ interim, messages, refused });
      };
      const asked = httpRequest({ createConnection: () => socket, method, insecureHTTPParser: lenient, maxHeaderSize });
      asked.maxHeadersCount = 0;
      asked.on("information", ({ statusCode }) => interim.push(statusCode));
      asked.on("error", (error: Error & { code?: string }) => {
        if (messages.length === 0) done(error.code ?? error.message);
      });
      asked.on("response", (response) => {
        const { message, ended } = collect(response);
        messages.push(message);
        ended.finally(() => done("")).catch(() => undefined);
      });
      asked.end();
      giveAll(socket, bytes, cut);
    });
  }

  return {
    name: lenient ? "node:http, lenient" : "node:http",
    lenient,
    read: (connection) => (connection.kind === "requests" ? readRequests(connection) : readAnswer(connection)),
  };
}

function giveAll(socket: MemorySocket, bytes: string, cut: boolean): void {
  socket.on("error", () => undefined);
  if (bytes !== "") socket.give(bytes);
  if (!cut) socket.give(null);
  else setImmediate(() => socket.destroy(new Error("the connection broke off")));
}

/** Follows a message to its end; `ended` never rejects. */
function collect(from: IncomingMessage): { message: Message; ended: Promise<void> } {
  const message: Message = {
    method: from.method ?? "",
    target: from.url ?? "",
    status: from.statusCode ?? 0,
    headers: sortedLines(pairs(from.rawHeaders)),
    body: "",
    trailers: [],
    complete: false,
  };
  from.setEncoding("latin1");
  from.on("data", (text: string) => (message.body += text));
  from.on("error", () => undefined);
  const ended = new Promise<void>((resolve) => {
    from.once("end", () => {
      message.complete = from.complete;
      message.trailers = sortedLines(pairs(from.rawTrailers));
    });
    from.once("close", resolve);
  });
  return { message, ended };
}

function pairs(raw: readonly string[]): Lines {
  return Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i] ?? "", raw[2 * i + 1] ?? ""]);
}
