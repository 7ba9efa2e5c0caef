import { chmod, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import {
  create,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Fault, faults, type LogFields, type Running } from "@kube-connector/core";
import {
  Client,
  credentials,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";

// The adapter between protobuf-es (messages by descriptor) and grpc-js (bytes on a unix socket).

/** One call as its handler sees it. */
export interface Call {
  /** Aborted when the caller went away or the server is stopping. */
  signal: AbortSignal;
  /** What the log line about this call carries; the handler adds to it. */
  fields: LogFields;
  /** Set by a handler that changed something, so that the call is worth a line. */
  did: boolean;
}

/** One async function for each method of a service. A thrown Fault becomes its gRPC code and sentence. */
export type Handlers<S extends DescService> = {
  [K in keyof S["method"]]: (
    request: MessageShape<S["method"][K]["input"]>,
    call: Call,
  ) => Promise<MessageInitShape<S["method"][K]["output"]>>;
};

/** How a call ended. */
export interface CallReport {
  method: string;
  call: Call;
  /** undefined: OK. */
  fault: Fault | undefined;
  milliseconds: number;
}

export interface Observer {
  /** Called with each request before its handler. */
  onRequest?(
    method: DescService["methods"][number],
    request: MessageShape<DescService["methods"][number]["input"]>,
  ): void;
  onEnd?(report: CallReport): void;
}

/** A service and what answers it. */
export interface Served {
  service: DescService;
  handlers: Record<string, (request: never, call: Call) => Promise<unknown>>;
}

/** Ties a service to its handlers, with their types checked. */
export function served<S extends DescService>(service: S, handlers: Handlers<S>): Served {
  return { service, handlers };
}

/**
 * Serves on a unix socket with mode 0600. The socket is made beside its place and moved there, so that a stale one is
 * replaced at once and nobody finds one that does not answer yet (the kubelet's watcher passes over names with a dot).
 */
export async function startRpcServer(options: {
  socket: string;
  services: readonly Served[];
  observer?: Observer;
}): Promise<Running> {
  const { socket, services, observer = {} } = options;
  const stopping = new AbortController();
  const server = new Server();
  for (const { service, handlers } of services) {
    server.addService(definitionOf(service), implementationOf(service, handlers, observer, stopping.signal));
  }
  const first = join(dirname(socket), `.${basename(socket)}`);
  await rm(first, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${first}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(new Fault("unavailable", `Cannot listen on ${socket}; is the folder there, and writable?`, error));
    });
  });
  await chmod(first, 0o600);
  const { ino } = await stat(first);
  await rename(first, socket);
  let ended: () => void = () => undefined;
  const done = new Promise<void>((resolve) => {
    ended = resolve;
  });
  return {
    done,
    async stop() {
      if (stopping.signal.aborted) return await done;
      // Ours may have been replaced by the next driver's already.
      if ((await stat(socket).catch(() => undefined))?.ino === ino) await rm(socket, { force: true });
      stopping.abort();
      const force = setTimeout(() => server.forceShutdown(), 10_000);
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      clearTimeout(force);
      ended();
    },
  };
}

function definitionOf(service: DescService): ServiceDefinition {
  return Object.fromEntries(
    service.methods.map((method) => [
      method.localName,
      {
        path: `/${service.typeName}/${method.name}`,
        requestStream: false,
        responseStream: false,
        requestSerialize: (message: MessageShape<typeof method.input>) => Buffer.from(toBinary(method.input, message)),
        responseSerialize: (message: MessageShape<typeof method.output>) =>
          Buffer.from(toBinary(method.output, message)),
        requestDeserialize: (bytes: Buffer) => readMessage(() => fromBinary(method.input, bytes, plain)),
        responseDeserialize: (bytes: Buffer) => readMessage(() => fromBinary(method.output, bytes, plain)),
      },
    ]),
  );
}

const plain = { readUnknownFields: false };

/** Whatever a parser says of bytes that may hold tokens, it is not passed on. */
function readMessage<T>(read: () => T): T {
  try {
    return read();
  } catch {
    throw new Error("the bytes are no such protobuf message");
  }
}

function implementationOf(
  service: DescService,
  handlers: Served["handlers"],
  observer: Observer,
  stopping: AbortSignal,
): UntypedServiceImplementation {
  const implementation: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    const handler = handlers[method.localName];
    if (handler === undefined) throw new Fault("internal", `${service.typeName}.${method.name} has no handler`);
    const answer = async (request: MessageShape<typeof method.input>, call: Call) => {
      observer.onRequest?.(method, request);
      return create(method.output, (await handler(request as never, call)) as MessageInitShape<typeof method.output>);
    };
    implementation[method.localName] = (
      raw: { request: MessageShape<typeof method.input>; on(event: "cancelled", then: () => void): void },
      reply: (error: { code: number; details: string } | null, value?: unknown) => void,
    ) => {
      const gone = new AbortController();
      raw.on("cancelled", () => gone.abort());
      const call: Call = { signal: AbortSignal.any([gone.signal, stopping]), fields: {}, did: false };
      const started = performance.now();
      const end = (fault: Fault | undefined) =>
        observer.onEnd?.({ method: method.name, call, fault, milliseconds: performance.now() - started });
      answer(raw.request, call).then(
        (value) => {
          end(undefined);
          reply(null, value);
        },
        (error: unknown) => {
          const fault = Fault.from(error, method.name);
          end(fault);
          reply({ code: faults[fault.code].grpc, details: fault.message.slice(0, 2000) });
        },
      );
    };
  }
  return implementation;
}

/** A client of one service at a unix socket. `close` it. */
export type RpcClient<S extends DescService> = {
  [K in keyof S["method"]]: (
    request: MessageInitShape<S["method"][K]["input"]>,
    options?: { timeout?: number; signal?: AbortSignal },
  ) => Promise<MessageShape<S["method"][K]["output"]>>;
} & { close(): void };

/**
 * A client with a connection of its own. A failed call rejects with grpc-js' ServiceError: `code` and `details`.
 * `timeout` is in milliseconds, 10,000 unless told.
 */
export function createRpcClient<S extends DescService>(service: S, socket: string): RpcClient<S> {
  // Without local subchannels two clients of one address would share a connection.
  const client = new Client(`unix:${socket}`, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.service_config_disable_resolution": 1,
  });
  const definition = definitionOf(service);
  const calls: Record<string, unknown> = { close: () => client.close() };
  for (const method of service.methods) {
    const how = definition[method.localName];
    if (how === undefined) continue;
    calls[method.localName] = (
      request: MessageInitShape<typeof method.input>,
      { timeout = 10_000, signal }: { timeout?: number; signal?: AbortSignal } = {},
    ) =>
      new Promise((resolve, reject) => {
        const call = client.makeUnaryRequest(
          how.path,
          how.requestSerialize,
          how.responseDeserialize,
          create(method.input, request),
          { deadline: Date.now() + timeout },
          (error, value) => (error === null ? resolve(value) : reject(error)),
        );
        signal?.addEventListener("abort", () => call.cancel(), { once: true });
      });
  }
  return calls as RpcClient<S>;
}
