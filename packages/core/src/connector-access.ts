import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import * as net from "node:net";
import * as tls from "node:tls";
import { alpnOf } from "./alpn.ts";
import type { ApiAccess } from "./api-server.ts";
import { Fault, type FaultCode } from "./fault.ts";
import { type KubeconfigParts, parseKubeconfig } from "./kubeconfig.ts";
import { Secret } from "./secret.ts";

/** Milliseconds for a connection, from the dial to the end of the handshake. */
const dialTime = 10_000;
/** A proxy's answer to CONNECT is one line. */
const longestAnswer = 16_384;
const http1 = alpnOf("http/1.1");
/** Milliseconds for which a file that was read is not read again. */
const fileAge = 1000;

/**
 * Access to a cluster by a generated kubeconfig, through its connector's forward or reverse door. The file and its
 * tokenFile are read again as they change, so a new token, CA or tunnel token is taken over without a restart. The answer
 * names the connector (`namespace/name`; not known by the reverse door) and the context's namespace.
 */
export async function connectorAccess(file: string): Promise<ApiAccess & { namespace?: string; connector?: string }> {
  let last: { parts: KubeconfigParts; at: number } | undefined;
  let trusted: { ca: string | undefined; context: tls.SecureContext } | undefined;
  const read = async (): Promise<KubeconfigParts> => {
    if (last !== undefined && performance.now() - last.at < fileAge) return last.parts;
    const text = await readFile(file, "utf8").catch((error: unknown) => {
      throw Fault.from(error, `Cannot read the kubeconfig ${file}`);
    });
    const parts = parseKubeconfig(text, file);
    const { tokenFile } = parts;
    if (tokenFile !== undefined) {
      // Clients differ in which they read, so the file holds a token of its own too; it counts where the newer one is missing.
      const token = await readFile(resolve(dirname(file), tokenFile), "utf8").catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
        throw Fault.from(error, `Cannot read the token ${tokenFile} of ${file}`);
      });
      if (token.trim() !== "") parts.token = new Secret(token.trim());
    }
    last = { parts, at: performance.now() };
    return parts;
  };
  /** Made once for each CA: to parse the certificates anew for each connection costs more than its handshake. */
  const contextOf = ({ ca }: KubeconfigParts): tls.SecureContext => {
    if (trusted === undefined || trusted.ca !== ca) trusted = { ca, context: tls.createSecureContext({ ca }) };
    return trusted.context;
  };
  const { server, namespace, proxyUrl } = await read();
  return {
    url: server,
    token: async () => (await read()).token,
    dial: async (signal) => {
      const parts = await read();
      return dial(parts, contextOf(parts), signal);
    },
    ...(namespace === undefined ? {} : { namespace }),
    ...(proxyUrl === undefined ? {} : { connector: decodeURIComponent(new URL(proxyUrl.reveal()).username) }),
  };
}

/** A verified TLS connection to the kubeconfig's server, through its proxy where it has one. */
async function dial(
  parts: KubeconfigParts,
  secureContext: tls.SecureContext,
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  const server = new URL(parts.server);
  const host = hostOf(server);
  const port = server.port === "" ? 443 : Number(server.port);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(dialTime)]);
  const socket =
    parts.proxyUrl === undefined
      ? await connect(host, port, limit)
      : await tunnel(new URL(parts.proxyUrl.reveal()), `${server.hostname}:${port}`, limit);
  const secured = tls.connect({
    socket,
    secureContext,
    ALPNProtocols: http1,
    // An IP address is verified, but not sent as SNI: https://www.rfc-editor.org/rfc/rfc6066#section-3
    ...(parts.tlsServerName === undefined && net.isIP(host) !== 0 ? { host } : {}),
    ...(parts.tlsServerName !== undefined || net.isIP(host) === 0 ? { servername: parts.tlsServerName ?? host } : {}),
  });
  secured.on("error", () => undefined);
  await happens(secured, "secureConnect", limit);
  return secured;
}

/** Without the brackets of an IPv6 address. */
function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, "");
}

async function connect(host: string, port: number, signal: AbortSignal): Promise<net.Socket> {
  const socket = net.connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 });
  // Between two waits nobody else listens.
  socket.on("error", () => undefined);
  await happens(socket, "connect", signal);
  return socket;
}

/** CONNECT with the tunnel token as Basic authentication. */
async function tunnel(proxy: URL, target: string, signal: AbortSignal): Promise<net.Socket> {
  const socket = await connect(hostOf(proxy), proxy.port === "" ? 80 : Number(proxy.port), signal);
  const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  socket.write(
    `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\nProxy-Authorization: Basic ${Buffer.from(credentials).toString("base64")}\r\n\r\n`,
  );
  let answer = "";
  while (!answer.includes("\r\n\r\n")) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) {
      await happens(socket, "readable", signal);
      if (socket.readableEnded) break;
      continue;
    }
    answer += chunk.toString("latin1");
    if (answer.length > longestAnswer) break;
  }
  const line = answer.split("\r\n", 1)[0] ?? "";
  const match = /^HTTP\/1\.[01] (\d{3}) ?(.*)$/.exec(line);
  if (match?.[1] === "200") return socket;
  socket.destroy();
  const codes: Record<string, FaultCode> = { "403": "permission_denied", "407": "unauthenticated" };
  throw new Fault(
    codes[match?.[1] ?? ""] ?? "unavailable",
    match === null
      ? `The proxy at ${proxy.host} did not answer CONNECT with HTTP`
      : `The proxy at ${proxy.host} refused the tunnel to ${target}: ${match[1]} ${match[2] ?? ""}`,
  );
}

/** Waits for that event; a broken, ended or aborted socket is a Fault, and destroyed. */
function happens(socket: net.Socket, event: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolved, reject) => {
    const settle = (error: Error | undefined) => {
      socket.off(event, onEvent);
      socket.off("error", onError);
      socket.off("close", onClose);
      signal.removeEventListener("abort", onAbort);
      if (error === undefined) resolved();
      else {
        socket.destroy();
        reject(error);
      }
    };
    const onEvent = () => settle(undefined);
    const onError = (error: Error) => settle(error);
    const onClose = () => settle(new Fault("unavailable", "the connection was closed"));
    const onAbort = () => settle(new Fault("deadline_exceeded", "no answer in time"));
    socket.on(event, onEvent);
    socket.on("error", onError);
    socket.on("close", onClose);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}
