import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";

// Clients for what wrk cannot do. They trust any certificate: nothing is measured of them, and they stand in this process.

let opened = 0;

/** To that port, from loopback addresses in turn: clients come from many. */
function from(port: number): { host: string; port: number; localAddress: string } {
  opened += 1;
  return { host: "127.0.0.1", port, localAddress: `127.0.0.${2 + (opened % 8)}` };
}

/** A connection inside TLS, to `port` or through what `socket` has opened; no session is kept. */
export function openTls(
  where: { port: number } | { socket: Socket },
  protocol: "http/1.1" | "h2" = "http/1.1",
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const how = "port" in where ? { ...from(where.port), servername: "localhost" } : where;
    const socket = connectTls({ ...how, rejectUnauthorized: false, ALPNProtocols: [protocol] }, () => resolve(socket));
    socket.setNoDelay(true).once("error", reject);
  });
}

/** A tunnel by CONNECT, with the credentials sent at once, as Go does. */
export function openTunnel(forward: number, authority: string, password: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ ...from(forward), noDelay: true });
    const basic = Buffer.from(`team-a/prod:${password}`).toString("base64");
    socket.once("error", reject);
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Authorization: Basic ${basic}\r\n\r\n`);
    socket.once("data", (bytes: Buffer) => {
      if (bytes.toString() === "HTTP/1.1 200 OK\r\n\r\n") resolve(socket);
      else reject(new Error(bytes.toString()));
    });
  });
}

export function getText(path: string, host: string, headers: readonly string[]): string {
  return `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${headers.map((line) => `${line}\r\n`).join("")}\r\n`;
}

/** Sends a text and ends when that many bytes of body have come after the head. */
export function ask(socket: Socket, text: string, body: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let head = "";
    let missing = -1;
    const onData = (bytes: Buffer) => {
      if (missing < 0) {
        head += bytes.toString("latin1");
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) return;
        if (!/^HTTP\/1\.1 (200|101) /.test(head)) reject(new Error(head.slice(0, 300)));
        missing = body - (head.length - end - 4);
      } else missing -= bytes.length;
      if (missing > 0) return;
      socket.off("data", onData);
      resolve();
    };
    socket.on("data", onData);
    socket.write(text, "latin1");
  });
}

/** Runs `work` that many times, `lanes` of them at once. */
export async function inLanes(times: number, lanes: number, work: () => Promise<void>): Promise<void> {
  let left = times;
  const lane = async () => {
    while (left-- > 0) await work();
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}
