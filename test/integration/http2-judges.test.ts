import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, onTestFinished, test } from "vitest";
// oxlint-disable-next-line import/no-relative-packages -- these are no part of the proxy's index
import { Field } from "../../proxy/src/http2/field.ts";
// oxlint-disable-next-line import/no-relative-packages -- these are no part of the proxy's index
import { HpackDecoder } from "../../proxy/src/http2/hpack-decoder.ts";
// oxlint-disable-next-line import/no-relative-packages -- these are no part of the proxy's index
import { HpackEncoder } from "../../proxy/src/http2/hpack-encoder.ts";
import { startHttp2Proxy } from "../kit/http2.ts";
import { callerToken, connectText } from "../kit/test-proxy.ts";

// What others say of our HTTP/2: h2spec at both doors, and Go's HPACK on random blocks. HPACK_BLOCKS=1000000 takes more.

const run = promisify(execFile);
const blocks = Number(process.env.HPACK_BLOCKS ?? 20_000);
let home: string;

beforeAll(async () => {
  const { stdout } = await run(join(import.meta.dirname, "../http2/build.sh"), { maxBuffer: 16e6 });
  home = stdout.trim().split("\n").at(-1) ?? "";
});

/** A port behind which each connection is a tunnel through the forward door. */
async function startTunnels(forwardPort: number, authority: string): Promise<number> {
  const server = createServer((client) => {
    const tunnel = connect(forwardPort, "127.0.0.1", () => tunnel.write(connectText(authority)));
    client.pause();
    client.on("error", () => undefined).once("close", () => tunnel.destroy());
    tunnel.on("error", () => undefined).once("close", () => client.destroy());
    tunnel.once("data", () => client.pipe(tunnel).pipe(client));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** Where nghttp2 does otherwise than h2spec wants. Each of them ends within the connection of who asks for it. */
const byNghttp2 = [
  // It does not look at frames for streams that are closed, or were passed over.
  "8: closed: Sends a DATA frame after sending RST_STREAM frame",
  "9: closed: Sends a HEADERS frame after sending RST_STREAM frame",
  "11: closed: Sends a DATA frame",
  "12: closed: Sends a HEADERS frame",
  "2: Sends stream identifier that is numerically smaller than previous",
  // Nor at PRIORITY, which RFC 9113 has done away with.
  "2: Sends PRIORITY frame that depend on itself",
  "1: Sends a PRIORITY frame with 0x0 stream identifier",
  // Node ends a connection that acknowledges what was never asked, and one whose stream has too much window.
  "2: Sends a PING frame with ACK",
  "3: Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
];

// What nghttp2 does not look at takes h2spec's whole patience, so it has less of it there, and one door.
test.each([
  { by: "own", door: "forward", patience: 5, except: [] },
  { by: "own", door: "reverse", patience: 5, except: [] },
  { by: "node", door: "reverse", patience: 2, except: byNghttp2 },
] as const)(
  "h2spec finds nothing else in HTTP/2 by $by at the $door door, and nothing is left out",
  async ({ by, door, patience, except }) => {
    await using world = await startHttp2Proxy({
      http2: by,
      onStream: (stream) => {
        // Only then: of a stream that has its answer already nothing more is judged.
        stream.resume();
        stream.once("end", () => {
          if (stream.destroyed) return;
          stream.respond({ ":status": 200 });
          stream.end("as many bytes as the tests of windows want");
        });
      },
    });
    const { proxy, authority } = world;
    const port = door === "reverse" ? proxy.reversePort : await startTunnels(proxy.forwardPort, authority);
    const args = ["--tls", "--insecure", "--strict", "-h", "127.0.0.1", "-p", String(port), "-o", String(patience)];
    const env = { ...process.env, H2SPEC_AUTHORITY: world.hostOf(door), H2SPEC_AUTHORIZATION: `Bearer ${callerToken}` };
    const { stdout } = await run(join(home, "h2spec"), args, { env, maxBuffer: 16e6 }).catch(
      (error: { stdout: string }) => error,
    );
    const found = except.length === 0 ? "" : stdout.slice(stdout.lastIndexOf("Failures"));
    const failed = [...found.matchAll(/^ *× (\d+: .*)$/gm)].map(([, name]) => name);
    expect(failed).toEqual(except);
    const summary = `${146 - except.length} passed, 0 skipped, ${except.length} failed`;
    expect(stdout, stdout.slice(stdout.lastIndexOf("Failures"))).toContain(`146 tests, ${summary}`);
    expect(world.h2target.seen.length).toBeGreaterThan(20);
  },
);

/** Cuts records out of chunks: see test/http2/hpack-peer. */
function createRecordReader() {
  let bytes = Buffer.alloc(0);
  let at = 0;
  const number = () => {
    if (bytes.length < at + 4) throw new RangeError("more");
    at += 4;
    return bytes.readUInt32BE(at - 4);
  };
  const piece = () => {
    const length = number();
    if (bytes.length < at + length) throw new RangeError("more");
    at += length;
    return bytes.subarray(at - length, at);
  };
  return function* records(chunk: Buffer) {
    bytes = Buffer.concat([bytes.subarray(at), chunk]);
    at = 0;
    for (;;) {
      const from = at;
      try {
        number();
        const fields = Array.from({ length: number() }, () => [piece().toString("latin1"), piece().toString("latin1")]);
        yield { fields, block: piece() };
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        at = from;
        return;
      }
    }
  };
}

test(`${blocks} random blocks of Go's HPACK are decoded as Go meant them`, { timeout: 600_000 }, async () => {
  const go = spawn(join(home, "hpack-peer"), ["encode", "7", String(blocks)], { stdio: ["ignore", "pipe", "inherit"] });
  const decoder = new HpackDecoder(1_000_000);
  const read = createRecordReader();
  const different: unknown[] = [];
  let count = 0;
  for await (const chunk of go.stdout as AsyncIterable<Buffer>) {
    for (const { fields, block } of read(chunk)) {
      const found = decoder.decode(block).fields.map(({ name, value }) => [name, value]);
      if (JSON.stringify(found) !== JSON.stringify(fields)) different.push({ found, fields });
      count += 1;
    }
  }
  expect(different.slice(0, 3)).toEqual([]);
  expect(count).toBe(blocks);
});

test(`${blocks} random blocks of ours are decoded by Go as we meant them`, { timeout: 600_000 }, async () => {
  const go = spawn(join(home, "hpack-peer"), ["decode"], { stdio: ["pipe", "pipe", "inherit"] });
  let said = "";
  go.stdout.on("data", (bytes: Buffer) => (said += bytes.toString()));
  const ended = once(go, "close");
  const encoder = new HpackEncoder();
  const random = createRandom();
  const known: Field[] = [];
  for (let count = 0; count < blocks; count++) {
    if (random(50) === 0) encoder.limitTable(random(5000));
    const fields = Array.from({ length: random(10) }, () => {
      const old = known[random(200)];
      if (old !== undefined && random(2) === 0) return old;
      const field = randomField(random);
      known[known.length < 200 ? known.length : random(200)] = field;
      return field;
    });
    const { bytes, length } = encoder.encode(fields);
    const record = [number(0xffff_ffff), number(fields.length)];
    for (const { name, value } of fields) record.push(piece(Buffer.from(name)), piece(Buffer.from(value, "latin1")));
    record.push(piece(bytes.subarray(0, length)));
    if (!go.stdin.write(Buffer.concat(record))) await once(go.stdin, "drain");
  }
  go.stdin.end();
  await ended;
  expect(said.trim()).toBe(String(blocks));
});

function createRandom() {
  let seed = 1;
  return (most: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((seed / 2_147_483_648) * most);
  };
}

function randomField(random: (most: number) => number): Field {
  const names = [":path", ":status", "accept", "user-agent", "date"];
  const name = random(2) === 0 ? (names[random(names.length)] ?? "") : `x-${random(1000)}`;
  const length = 1 + random(2 ** random(9));
  const value = Array.from({ length }, () => String.fromCharCode(random(256))).join("");
  const indexing = (["index", "plain", "never"] as const)[random(3)] ?? "plain";
  return new Field(name, value, { indexing });
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function piece(bytes: Buffer): Buffer {
  return Buffer.concat([number(bytes.length), bytes]);
}
