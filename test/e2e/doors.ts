import { connect as connectTcp, type Socket } from "node:net";
import { createRawClient, openSecure, type RawAnswer, type RawClient } from "../kit/raw-client.ts";
import { apply, kubectlOk } from "./kubectl.ts";
import { bearerSecret, connector, type Pod, servedAt, waitFor } from "./cluster.ts";
import { type EchoTarget, startEchoTarget } from "./echo-target.ts";

/** The tokens of a pod and the CA it trusts, as they stand in its volume. */
export interface Mounted {
  tunnel: string;
  request: string;
  ca: string;
}

export async function readMounted(pod: Pod, folder: string): Promise<Mounted> {
  const config = await pod.ok(`cat /access/${folder}/kubeconfig`);
  const tunnel = /proxy-url: "?http:\/\/[^:]+:([^@]+)@/.exec(config)?.[1];
  if (tunnel === undefined) throw new Error(`no proxy-url in the kubeconfig of ${pod.name}`);
  return {
    tunnel: decodeURIComponent(tunnel),
    request: await pod.ok(`cat /access/${folder}/token`),
    ca: await pod.ok(`cat /access/${folder}/ca.crt`),
  };
}

export type Door = "forward" | "reverse";

/** A connector to a target that echoes, its real proxy, and clients that say what they like. */
export interface EchoConnector extends AsyncDisposable {
  target: EchoTarget;
  /** The token in its Secret. */
  stored: string;
  /** The Host of requests through that door. */
  host(door: Door): string;
  /** A plain connection to the forward door. */
  plain(): Promise<RawClient>;
  /** The answer's head to CONNECT there, on a connection of its own. */
  connect(ask: { password: string; user?: string; authority?: string }): Promise<string>;
  /** A connection for requests: through a tunnel of that token, or to the reverse door. */
  open(door: Door, by: Mounted, options?: { servername?: string }): Promise<RawClient>;
  /** One request on a connection of its own, with the request token of `by`. */
  get(door: Door, by: Mounted, path?: string): Promise<RawAnswer>;
}

/** Makes the Connector in that namespace, and waits until it is Ready and served. */
export async function startEchoConnector(namespace: string, name: string): Promise<EchoConnector> {
  const target = await startEchoTarget();
  const stored = `stored-${crypto.randomUUID()}`;
  await apply([
    { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
    bearerSecret(namespace, `${name}-token`, stored),
    connector(namespace, name, target),
  ]);
  await waitFor(namespace, name, {});
  const clusterIP = await servedAt(namespace, name);
  const service = `c-${name}.${namespace}.svc.cluster.local`;
  const clients = new Set<Socket>();
  async function dial(port: number): Promise<Socket> {
    const socket = connectTcp({ host: clusterIP, port, allowHalfOpen: true });
    clients.add(socket);
    socket.on("error", () => undefined).once("close", () => clients.delete(socket));
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("close", () => reject(new Error(`no connection to ${clusterIP}:${port}`)));
    });
    return socket;
  }
  const key = `${namespace}/${name}`;
  async function tunnel(ask: { password: string; user?: string; authority?: string }) {
    const { password, user = key, authority = target.authority } = ask;
    const client = createRawClient(await dial(80));
    const basic = Buffer.from(`${user}:${password}`).toString("base64");
    client.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Authorization: Basic ${basic}\r\n\r\n`);
    return { client, head: await client.until("\r\n\r\n") };
  }
  const host = (door: Door) => (door === "forward" ? target.authority : service);
  async function open(door: Door, by: Mounted, { servername }: { servername?: string } = {}): Promise<RawClient> {
    if (door === "reverse")
      return openSecure({ socket: await dial(443) }, { ca: by.ca, servername: servername ?? service });
    const { client, head } = await tunnel({ password: by.tunnel });
    if (!head.startsWith("HTTP/1.1 200 ")) throw new Error(`no tunnel: ${head}`);
    client.socket.removeAllListeners("data");
    return openSecure({ socket: client.socket }, { ca: by.ca, ...(servername === undefined ? {} : { servername }) });
  }
  return {
    target,
    stored,
    host,
    plain: async () => createRawClient(await dial(80)),
    async connect(ask) {
      const { client, head } = await tunnel(ask);
      client.socket.destroy();
      return head;
    },
    open,
    async get(door, by, path = "/api") {
      const client = await open(door, by);
      const answer = await client.ask(requestText("GET", path, host(door), bearer(by.request)));
      client.socket.destroy();
      return answer;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of clients) socket.destroy();
      await kubectlOk(["-n", namespace, "delete", "connector", name, "--ignore-not-found"]);
      await kubectlOk(["-n", namespace, "delete", "secret", `${name}-token`, "--ignore-not-found"]);
      await target[Symbol.asyncDispose]();
    },
  };
}

export const bearer = (token: string): string => `Authorization: Bearer ${token}\r\n`;

/** A request's text; `lines` are header lines, each ended by CRLF. */
export function requestText(method: string, path: string, host: string, lines = "", body = ""): string {
  return `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${lines}\r\n${body}`;
}
