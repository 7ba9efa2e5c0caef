import { connectText } from "./test-proxy.ts";
import { openRaw, openSecure, type RawClient } from "./raw-client.ts";

/** How a client comes in. */
export type Way = () => Promise<RawClient>;

/** What clients under load have seen. */
export interface Seen {
  answered: number;
  /** One sentence for each request that was lost. */
  lost: string[];
  connections: number;
}

export interface SteadyClients {
  seen: Seen;
  /** Lets each finish its request, and ends. */
  stop(): Promise<void>;
}

export interface SteadyOptions {
  way: Way;
  count: number;
  /** The text of a request, which has no effect twice: its number is in it. */
  request: (number: number) => string;
  /** Milliseconds between an answer and the next request. */
  pause: () => number;
  /** A connection for each request. */
  oneShot?: boolean;
}

/** Clients that never try again: whatever does not get its answer is lost. They only connect anew when they are told to. */
export function startSteadyClients(options: SteadyOptions): SteadyClients {
  const seen: Seen = { answered: 0, lost: [], connections: 0 };
  const life = { isOver: false };
  let number = 0;
  async function run(): Promise<void> {
    let client: RawClient | undefined;
    while (!life.isOver) {
      number += 1;
      const own = number;
      let doing = "connect";
      try {
        if (client === undefined) {
          client = await options.way();
          seen.connections += 1;
        }
        doing = "ask";
        const answer = await client.ask(options.request(own));
        if (answer.status === 200) seen.answered += 1;
        else seen.lost.push(`${own}: ${answer.status} ${answer.body}`);
        if (options.oneShot || /\r\nconnection: close\r\n/i.test(answer.head)) client = end(client);
      } catch (error) {
        seen.lost.push(`${own}, ${doing}: ${error instanceof Error ? error.message : String(error)}`);
        client = end(client);
      }
      await new Promise((resolve) => setTimeout(resolve, options.pause()));
      // Whoever pools connections takes none that was closed meanwhile.
      if (client?.socket.readableEnded === true) client = end(client);
    }
    end(client);
  }
  const running = Promise.all(Array.from({ length: options.count }, run));
  return {
    seen,
    async stop() {
      life.isOver = true;
      await running;
    },
  };
}

function end(client: RawClient | undefined): undefined {
  client?.socket.destroy();
}

/** Through CONNECT at that port. */
export function throughTunnel(port: number, authority: string, authorization: string, ca: string): Way {
  return async () => {
    const tunnel = await openRaw(port);
    tunnel.send(connectText(authority, authorization));
    const head = await tunnel.until("\r\n\r\n");
    if (!head.startsWith("HTTP/1.1 200 ")) throw new Error(`CONNECT was refused: ${head}`);
    tunnel.socket.removeAllListeners("data");
    return await openSecure({ socket: tunnel.socket }, { ca });
  };
}
