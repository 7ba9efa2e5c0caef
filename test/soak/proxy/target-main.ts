import http2 from "node:http2";
import https from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { drained, lineLength, MixedUp, Pattern } from "./marks.ts";
import type { FromTarget, TargetStart, TargetTally, ToTarget } from "./messages.ts";
import { tokenVersion } from "./tokens.ts";

// A target as a process of its own: it answers each request with its mark, in the size and at the pace that the request
// asks for, and looks at what comes: the token, and whether a body is the sender's own.

type Request = IncomingMessage | http2.Http2ServerRequest;
type Response = ServerResponse | http2.Http2ServerResponse;

const tell = (message: FromTarget) => process.send?.(message);

process.once("message", (first: ToTarget) => {
  if ("start" in first) serve(first.start);
});
process.once("disconnect", () => process.exit(0));

function serve(given: TargetStart): void {
  const replaced = new Map(given.replaced);
  let seen: TargetTally = { requests: 0, wrong: [], latest: 0 };
  process.on("message", (message: ToTarget) => {
    if ("replaced" in message) replaced.set(...message.replaced);
  });
  setInterval(() => {
    tell({ seen });
    seen = { requests: 0, wrong: [], latest: seen.latest };
  }, 500).unref();
  const wrong = (sentence: string) => {
    if (seen.wrong.length < 20) seen.wrong.push(`at ${given.connector}: ${sentence}`);
  };

  /** The request's pattern, once everything about its head has been looked at. */
  function judge(request: Request): Pattern {
    const { authorization = "", "x-mark": mark, "x-sent": sent } = request.headers;
    seen.requests += 1;
    const version = tokenVersion(given.key, given.connector, authorization.replace(/^Bearer /, ""));
    if (version === undefined) wrong(`a token that is not its own, from ${String(mark)}`);
    else {
      const late = Number(sent) - (replaced.get(version) ?? Number.POSITIVE_INFINITY);
      seen.latest = Math.max(seen.latest, late);
    }
    if (typeof mark !== "string" || mark === "") wrong(`a request without a mark: ${request.method} ${request.url}`);
    else if (mark.startsWith("never")) wrong(`a request that should have been refused: ${mark}`);
    if (request.url?.startsWith(given.prefix) !== true) wrong(`a path without the prefix: ${request.url}`);
    return new Pattern(String(mark));
  }

  async function answer(request: Request, response: Response): Promise<void> {
    const pattern = judge(request);
    const asked = new URL(request.url ?? "/", "https://target").searchParams;
    const [size, hold] = [Number(asked.get("size") ?? 0), Number(asked.get("hold") ?? 0)];
    let came = 0;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      pattern.check(came, chunk);
      came += chunk.length;
    }
    const promised = request.headers["x-size"];
    if (promised !== undefined && Number(promised) !== came) {
      wrong(`${pattern.mark} came as ${came} bytes of ${String(promised)}`);
    }
    if (hold > 0) await sleep(hold);
    response.setHeader("x-mark", pattern.mark);
    if (asked.has("watch")) {
      await sendEvents(response, pattern, { every: Number(asked.get("every")), count: Number(asked.get("count")) });
      return;
    }
    if (asked.get("framing") !== "chunked") response.setHeader("content-length", size);
    await send(response, pattern, size);
  }

  const onRequest = (request: Request, response: Response) => {
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    answer(request, response).catch((error: unknown) => {
      // A body that breaks off is its sender's doing; one with other bytes in it is not.
      if (error instanceof MixedUp) wrong(`a body is mixed up: ${error.message}`);
      (response as ServerResponse).destroy();
    });
  };

  const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const pattern = judge(request);
    let at = 0;
    socket.on("error", () => undefined);
    const echo = (bytes: Buffer) => {
      try {
        pattern.check(at, bytes);
      } catch (error) {
        wrong(`a stream is mixed up: ${String(error)}`);
      }
      at += bytes.length;
      if (!socket.write(bytes)) socket.pause();
    };
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Mark: ${pattern.mark}\r\n\r\n`,
    );
    if (head.length > 0) echo(head);
    socket.on("data", echo);
    socket.on("drain", () => socket.resume());
    socket.on("end", () => socket.end());
  };

  const identity = { cert: given.certificate, key: given.privateKey };
  const server = given.http2
    ? http2.createSecureServer({ ...identity, allowHTTP1: true, maxSessionMemory: 200 }, onRequest)
    : https.createServer(identity, onRequest);
  // As long as Go's servers keep an idle connection.
  Object.assign(server, { keepAliveTimeout: 90_000 });
  server.on("upgrade", onUpgrade);
  server.on("sessionError", () => undefined);
  server.on("tlsClientError", () => undefined);
  server.on("clientError", (_error: Error, socket: Duplex) => socket.destroy());
  server.listen(given.port, "127.0.0.1", 4096, () => tell({ ready: (server.address() as AddressInfo).port }));
}

/** Whether nobody listens any more. */
function listened(response: Response): { isOver: boolean } {
  const life = { isOver: false };
  response.once("close", () => (life.isOver = true));
  return life;
}

async function send(response: Response, pattern: Pattern, size: number): Promise<void> {
  const stream = response as ServerResponse;
  const life = listened(response);
  for (let at = 0; at < size && !life.isOver; ) {
    const bytes = pattern.bytes(at, size - at);
    at += bytes.length;
    if (!stream.write(bytes)) await drained(stream);
  }
  response.end();
}

async function sendEvents(
  response: Response,
  pattern: Pattern,
  { every, count }: { every: number; count: number },
): Promise<void> {
  const life = listened(response);
  for (let sent = 0; sent < count && !life.isOver; sent += 1) {
    (response as ServerResponse).write(pattern.bytes(sent * lineLength, lineLength));
    await sleep(every);
  }
  response.end();
}
