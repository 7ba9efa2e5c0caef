import { parseAddress, type ResolvedConnector, Secret, silentLog, systemClock } from "@kube-connector/core";
import { defaultLimits, defaultTimeouts, noMetrics } from "@kube-connector/proxy";
// oxlint-disable import/no-relative-packages -- what is fuzzed is inside of the proxy, not in its index
import type { AuditRecord } from "../../proxy/src/audit/record.ts";
import type { Collaborators } from "../../proxy/src/gate.ts";
import { ClientConnection } from "../../proxy/src/http1/relay.ts";
import { systemContexts } from "../../proxy/src/target-contexts.ts";
import { Pool, UpstreamConnection } from "../../proxy/src/upstream.ts";
// oxlint-enable import/no-relative-packages
import { TestAccess, TestSource, testToken } from "../kit/test-proxy.ts";
import { type AnswerInput, askedText, bytesFor, host, type Input, piecesOf, secondText, type Split } from "./input.ts";
import { MemorySocket, settled } from "./memory-socket.ts";

// The proxy's own code for one client connection and its target, between sockets in memory: no TLS and no kernel, so that
// thousands of inputs a second pass through it.

/** One connection as it was written to, and whether it broke off. */
export interface Written {
  bytes: string;
  cut: boolean;
}

/** What became of one input. */
export interface Run {
  /** What each connection to the target got. */
  upstream: readonly Written[];
  /** What the client got: all that it sent being requests; the answer to the first being an answer. */
  client: Written;
  /** With requests: how many bytes the target had got, in all, each time that it answered. */
  answeredAt?: readonly number[];
  /** With an answer: whether the target had to end its connection to be heard. */
  endsLate?: boolean;
  /** With an answer: whether the connection to the target was kept for the next request. */
  keeps?: boolean;
  /** With an answer: what the client got for a second request; undefined when the connection was closed before. */
  second?: Written;
  /** What the audit log has of the first connection, in order. */
  records: readonly AuditRecord[];
}

/** Something that carries inputs as the proxy does. */
export interface Subject {
  run(input: Input, split: Split): Promise<Run>;
}

/** What a target answers that behaves. */
export const plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
export const secondAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond";

/** Stands for the one whose target is only in memory. */
export const memoryConnector: ResolvedConnector = {
  namespace: "team-a",
  name: "prod",
  uid: "uid-1",
  address: "https://127.0.0.1:64430",
  tls: { insecureSkipVerify: false },
  access: { sameNamespace: "Allow" },
  serviceNames: [host],
  target: parseAddress("https://127.0.0.1:64430"),
  token: new Secret(testToken),
  leaf: { certificate: "", key: new Secret("") },
};

/** Passes through the very code that serves a connection inside TLS. */
export function createMemoryProxy(connector = memoryConnector): Subject {
  const source = new TestSource();
  source.put(connector);
  const { host: name, port, authority } = connector.target;
  const plan = {
    host: name,
    port,
    authority,
    verifiedName: name,
    sni: name,
    insecureSkipVerify: false,
    contexts: systemContexts(),
    checkServerIdentity: () => undefined,
  };
  const shared = {
    connectors: source,
    metrics: noMetrics,
    clock: systemClock,
    log: silentLog,
    timeouts: defaultTimeouts,
    limits: defaultLimits,
    allowLoopbackTargets: true,
    isDraining: () => false,
  };

  /** What comes in pieces also goes out through sockets that want to be waited for. */
  function open(door: Input["door"], split: Split) {
    const narrow = split.length > 0;
    const records: AuditRecord[] = [];
    const targets: { socket: MemorySocket; answered: number }[] = [];
    const pool = new Pool(plan, shared);
    pool.dial = async (user) => {
      const socket = new MemorySocket({ narrow });
      targets.push({ socket, answered: 0 });
      const upstream = new UpstreamConnection(socket.asTls, pool, user);
      socket.on("data", (bytes: Buffer) => upstream.received(bytes));
      return upstream;
    };
    const answeredAt: number[] = [];
    const access = new TestAccess();
    const collaborators: Collaborators = {
      ...shared,
      authenticator: access,
      authorizer: access,
      audit: { record: (record) => record.stage === "ResponseComplete" && records.push(record), check() {} },
      limiter: { admit: () => ({ end() {} }) },
      upstreams: { poolFor: () => pool, connectorChanged() {}, tick() {}, stop() {} },
    };
    const client = new MemorySocket({ narrow });
    const admitted = { door, key: "team-a/prod", uid: connector.uid, remote: "memory" };
    void new ClientConnection(client.asTls, admitted, collaborators, () => undefined);
    /** Answers each request that waits, one after the other. */
    const answerAll = async (answer: string) => {
      for (;;) {
        const target = targets.find(({ socket, answered }) => !socket.destroyed && socket.written.length > answered);
        if (target === undefined) return;
        target.answered = target.socket.written.length;
        answeredAt.push(targets.reduce((sum, { socket }) => sum + socket.written.length, 0));
        target.socket.give(answer);
        await settled();
      }
    };
    return { client, targets, records, answeredAt, answerAll };
  }

  return {
    run: (input, split) => (input.kind === "requests" ? runRequests(input, split) : runAnswer(input, split)),
  };

  async function runRequests(input: Input, split: Split): Promise<Run> {
    const { client, targets, records, answeredAt, answerAll } = open(input.door, split);
    await giveAll(client, bytesFor(input, connector), split);
    await settled();
    await answerAll(plainAnswer);
    const upstream = targets.map(({ socket }) => writtenTo(socket));
    const run = { upstream, client: writtenTo(client), records: [...records], answeredAt };
    client.give(null);
    for (const { socket } of targets) socket.destroy();
    return run;
  }

  async function runAnswer(input: AnswerInput, split: Split): Promise<Run> {
    const { client, targets, records, answerAll } = open(input.door, split);
    client.give(askedText(input, connector));
    await settled();
    const target = targets[0];
    if (target === undefined) throw new Error("the request of an answer did not pass");
    target.answered = target.socket.written.length;
    await giveAll(target.socket, bytesFor(input, connector), split);
    if (input.ends === "at once") target.socket.give(null);
    await settled();
    // Without an end the second request waits for the first answer, as it should: then the target ends.
    const endsLate = records.length === 0;
    if (endsLate) {
      target.socket.give(null);
      await settled();
    }
    const upstream = targets.map(({ socket }) => writtenTo(socket));
    const run = {
      upstream,
      client: writtenTo(client),
      records: records.slice(0, 1),
      endsLate,
      keeps: !target.socket.destroyed,
    };
    let second: Written | undefined;
    if (!client.destroyed && !client.isEnded) {
      client.give(secondText(input, connector));
      await settled();
      await answerAll(secondAnswer);
      const both = writtenTo(client);
      second = { ...both, bytes: both.bytes.slice(run.client.bytes.length) };
    }
    client.give(null);
    for (const { socket } of targets) socket.destroy();
    return second === undefined ? run : { ...run, second };
  }
}

async function giveAll(socket: MemorySocket, bytes: string, split: Split): Promise<void> {
  for (const { bytes: piece, settles } of piecesOf(bytes, split)) {
    socket.give(piece);
    if (settles) await settled();
  }
}

function writtenTo(socket: MemorySocket): Written {
  return { bytes: socket.written, cut: socket.destroyed && !socket.isEnded };
}
