import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A replica behind a balancer. */
export interface Backend {
  port: number;
  /** Whether it says that it is ready. */
  isReady: () => Promise<boolean>;
}

export interface Balancer extends AsyncDisposable {
  port: number;
  add(backend: Backend): void;
  /** Backends that get new connections now. */
  taking(): number;
}

/**
 * What a Service does: new connections go round the backends that are ready, open ones stay where they are. It hears of
 * readiness late, as kube-proxy does, and it does not try another backend when one refuses.
 */
export async function startBalancer(options: { every: number; late: number }): Promise<Balancer> {
  const backends: (Backend & { isTaking: boolean })[] = [];
  const sockets = new Set<Socket>();
  let next = 0;
  const keep = (socket: Socket, other: () => Socket | undefined) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => {
      sockets.delete(socket);
      other()?.destroy();
    });
  };
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const taking = backends.filter(({ isTaking }) => isTaking);
    const chosen = taking[(next += 1) % Math.max(1, taking.length)];
    if (chosen === undefined) {
      client.destroy();
      return;
    }
    const inner = connect({ host: "127.0.0.1", port: chosen.port, allowHalfOpen: true, noDelay: true });
    keep(client, () => inner);
    keep(inner, () => client);
    client.pipe(inner);
    inner.pipe(client);
  });
  const look = () => {
    for (const backend of backends) {
      void backend.isReady().then((ready) => {
        if (ready !== backend.isTaking) setTimeout(() => (backend.isTaking = ready), ready ? 0 : options.late);
      });
    }
  };
  const timer = setInterval(look, options.every);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    add: (backend) => void backends.push({ ...backend, isTaking: true }),
    taking: () => backends.filter(({ isTaking }) => isTaking).length,
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
