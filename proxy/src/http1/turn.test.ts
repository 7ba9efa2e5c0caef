import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { holdForTurn } from "./turn.ts";

// What is written to a held socket goes out at the end of the turn: whole, in order, also when the socket is ended meanwhile.

async function pair(): Promise<{ ours: TLSSocket; theirs: Socket }> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const ours = connect(port, "127.0.0.1");
  const [theirs] = (await once(server, "connection")) as [Socket];
  await once(ours, "connect");
  server.close();
  onTestFinished(() => {
    ours.destroy();
    theirs.destroy();
  });
  // What of a socket is used here, TLS or not is the same.
  return { ours: ours as TLSSocket, theirs };
}

async function textOf(socket: Socket): Promise<string> {
  let text = "";
  for await (const piece of socket) text += String(piece);
  return text;
}

const endOfTurn = () => new Promise((resolve) => setImmediate(resolve));

test("what is written waits for the end of the turn, and no longer", async () => {
  const { ours, theirs } = await pair();
  holdForTurn(ours);
  ours.write("one, ");
  holdForTurn(ours);
  ours.write("two");
  expect([ours.writableCorked, ours.bytesWritten, ours.writableLength]).toEqual([1, 8, 8]);
  await endOfTurn();
  expect([ours.writableCorked, ours.bytesWritten]).toEqual([0, 8]);
  expect(String(((await once(theirs, "data")) as [Buffer])[0])).toBe("one, two");
});

test("a socket that is ended in the same turn loses nothing", async () => {
  const { ours, theirs } = await pair();
  holdForTurn(ours);
  ours.write("one, ");
  ours.end("two");
  expect(await textOf(theirs)).toBe("one, two");
});

test("a socket that is destroyed meanwhile stops none of the others", async () => {
  const [gone, other] = [await pair(), await pair()];
  holdForTurn(gone.ours);
  holdForTurn(other.ours);
  gone.ours.write("never");
  other.ours.write("still");
  gone.ours.destroy();
  await endOfTurn();
  other.ours.end();
  expect(await textOf(other.theirs)).toBe("still");
  expect(await textOf(gone.theirs)).toBe("");
});
