import { setTimeout as wait } from "node:timers/promises";
import { noMetrics } from "@kube-connector/proxy";
// oxlint-disable-next-line import/no-relative-packages -- what is fuzzed is inside of the proxy, not in its index
import type { AuditRecord } from "../../proxy/src/audit/record.ts";
import type { TargetConnection } from "../kit/servers.ts";
import { startTestProxy } from "../kit/test-proxy.ts";
import { type AnswerInput, askedText, bytesFor, host, type Input, piecesOf, secondText, type Split } from "./input.ts";
import { createMemoryProxy, plainAnswer, type Run, secondAnswer } from "./memory-proxy.ts";
import { settled } from "./memory-socket.ts";

/** Milliseconds until what should come, and does not, has not come. */
const patience = 5_000;

/**
 * The running proxy, with TLS on both sides, a target that records bytes and clients at the door of the input. When the
 * target answers follows from what happens in memory; so no input needs to wait for silence.
 */
export async function startSocketProxy() {
  let records: AuditRecord[] = [];
  let upstreamConnections = 0;
  let onBytes: (connection: TargetConnection) => void = () => undefined;
  let base = 0;
  const room = await startTestProxy({
    connector: (connector) => ({ ...connector, serviceNames: [host] }),
    audit: { record: (record) => record.stage === "ResponseComplete" && records.push(record), check() {} },
    metrics: { ...noMetrics, upstreamConnections: (_state, change) => (upstreamConnections += change) },
    onConnection: (connection) => connection.socket.on("data", () => onBytes(connection)),
  });
  const { connector } = room;
  const memory = createMemoryProxy(connector);
  const targets = () => room.target.connections.slice(base);
  const upstream = () => targets().map((connection) => ({ bytes: connection.received(), cut: false }));
  const upstreamLength = () => upstream().reduce((sum, { bytes }) => sum + bytes.length, 0);

  async function open(input: Input) {
    base = room.target.connections.length;
    const client = await (input.door === "forward" ? room.forward() : room.direct(host));
    records = [];
    return client;
  }

  /** The next case finds no connection of this one. */
  async function close(client: Awaited<ReturnType<typeof open>>): Promise<void> {
    onBytes = () => undefined;
    client.socket.destroy();
    for (const { socket } of targets()) socket.destroy();
    await until(() => upstreamConnections === 0);
  }

  async function runRequests(input: Input, split: Split, expected: Run): Promise<Run> {
    const client = await open(input);
    const answers = [...(expected.answeredAt ?? [])];
    onBytes = (connection) => {
      if (answers[0] === undefined || upstreamLength() < answers[0]) return;
      answers.shift();
      connection.send(plainAnswer);
    };
    for (const { bytes, settles } of piecesOf(bytesFor(input, connector), split)) {
      client.send(bytes);
      if (settles) await settled();
    }
    await until(() => hasAll(client.received(), expected) && answers.length === 0);
    await until(() => records.length >= expected.records.length);
    const run = { upstream: upstream(), client: { bytes: client.received(), cut: false }, records: [...records] };
    await close(client);
    return run;
  }

  async function runAnswer(input: AnswerInput, split: Split, expected: Run): Promise<Run> {
    const client = await open(input);
    const closed = client.closed();
    let isClosed = false;
    closed.then(() => (isClosed = true)).catch(() => undefined);
    let asked = (expected.upstream[0]?.bytes ?? "").indexOf("\r\n\r\n") + 4 + (input.asked === "POST" ? 5 : 0);
    onBytes = (connection) => {
      if (connection.received().length < asked) return;
      asked = Number.POSITIVE_INFINITY;
      void answer(connection);
    };
    const answer = async (connection: TargetConnection) => {
      for (const { bytes, settles } of piecesOf(bytesFor(input, connector), split)) {
        connection.send(bytes);
        if (settles) await settled();
      }
      if (input.ends === "later" && expected.endsLate === true) await wait(10);
      if (input.ends === "at once" || expected.endsLate === true) connection.socket.end();
    };
    client.send(askedText(input, connector));
    await until(() => (expected.client.cut ? isClosed : hasAll(client.received(), expected)));
    await until(() => records.length >= expected.records.length);
    // Bytes that come behind an answer are known for what they are until the next request is under way: no longer.
    if (expected.keeps === false) await until(() => upstreamConnections === 0);
    const first = client.received();
    const run = {
      upstream: upstream(),
      client: { bytes: first, cut: expected.client.cut },
      records: records.slice(0, 1),
    };
    if (expected.second !== undefined) {
      onBytes = (connection) => {
        if (connection.received().endsWith("\r\n\r\n")) connection.send(secondAnswer);
      };
      client.send(secondText(input, connector));
      await until(() => client.received().length >= first.length + (expected.second?.bytes.length ?? 0));
      Object.assign(run, { second: { bytes: client.received().slice(first.length), cut: false } });
    }
    await close(client);
    return run;
  }

  return {
    connector,
    /** What becomes of an input in memory, and here. */
    async run(input: Input, split: Split): Promise<{ expected: Run; run: Run }> {
      const expected = await memory.run(input, []);
      const run = await (input.kind === "requests"
        ? runRequests(input, split, expected)
        : runAnswer(input, split, expected));
      return { expected, run };
    },
    [Symbol.asyncDispose]: () => room[Symbol.asyncDispose](),
  };
}

/** Whether a client has got what it should. Of a refusal the words may differ: which fault is found first may, by the split. */
function hasAll(received: string, { client, records }: Run): boolean {
  const last = records.at(-1);
  const isRefused = last !== undefined && last.decision !== "allow";
  if (!isRefused) return received.length >= client.bytes.length;
  const answers = (text: string) => text.split(/^HTTP\/1\.1 /m).length;
  return answers(received) >= answers(client.bytes) && /(?:\}\n|\r\n\r\n)$/.test(received);
}

/** Ends when it holds, or when it has not held for long: then what there is is compared. */
async function until(holds: () => boolean): Promise<void> {
  const end = performance.now() + patience;
  while (!holds() && performance.now() < end) await settled();
}
