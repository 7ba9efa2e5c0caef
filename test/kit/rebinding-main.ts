import { createSocket } from "node:dgram";
import { createServer } from "node:tls";
import { parseAddress } from "@kube-connector/core";
import { openSecure } from "./raw-client.ts";
import { callerToken, connectText, startTestProxy } from "./test-proxy.ts";

// A name server that changes its mind, a proxy that asks it, and a target at each address it names. To be run in namespaces of its
// own, where /etc/resolv.conf names 127.0.0.1 and both addresses are there. Writes the statuses of the answers and what came to each.

const [honest = "", forbidden = ""] = process.argv.slice(2);
const name = "rebind.example";

/**
 * What the name server answers, one after the other: the addresses of one answer. For one request the proxy asks three times at
 * most: ahead of it, for it, and for its second try.
 */
const no = [forbidden];
const mind = [[honest], no, no, no, no, [honest, forbidden], [forbidden, honest]];
let asked = 0;

function startNameServer(): Promise<void> {
  const socket = createSocket("udp4");
  socket.on("message", (query, from) => {
    const end = query.indexOf(0, 12) + 5;
    const isA = query.readUInt16BE(end - 4) === 1;
    const addresses = isA ? (mind[asked++ % mind.length] ?? []) : [];
    const answers = addresses.map((ip) => [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...ip.split(".").map(Number)]);
    const head = Buffer.from([query[0] ?? 0, query[1] ?? 0, 0x84, 0, 0, 1, 0, answers.length, 0, 0, 0, 0]);
    socket.send(Buffer.concat([head, query.subarray(12, end), Buffer.from(answers.flat())]), from.port, from.address);
  });
  return new Promise((resolve) => socket.bind(53, "127.0.0.1", () => resolve()));
}

await startNameServer();
const room = await startTestProxy({ allowLoopbackTargets: false });
const leaf = await room.targetCa.leaf([name]);
const came: Record<string, number> = {};
for (const ip of [honest, forbidden]) {
  came[ip] = 0;
  const server = createServer({ cert: leaf.certificate, key: leaf.key }, (socket) => {
    socket.on("error", () => undefined);
    socket.on("data", () => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"));
  });
  server.on("connection", () => (came[ip] = (came[ip] ?? 0) + 1));
  await new Promise<void>((resolve) => server.listen(6443, ip, resolve));
}
const address = `https://${name}:6443`;
room.source.put({ ...room.connector, uid: "rebinding", address, target: parseAddress(address) });
const statuses: number[] = [];
for (let count = 0; count < 20; count++) {
  const tunnel = await room.raw();
  tunnel.send(connectText(`${name}:6443`));
  await tunnel.until("\r\n\r\n");
  tunnel.socket.removeAllListeners("data");
  const options = { ca: room.connectorCa.certificate, servername: name };
  const client = await openSecure({ socket: tunnel.socket }, options);
  const answer = await client.ask(
    `GET / HTTP/1.1\r\nHost: ${name}:6443\r\nAuthorization: Bearer ${callerToken}\r\n\r\n`,
  );
  statuses.push(answer.status);
  client.socket.destroy();
}
process.stdout.write(JSON.stringify({ statuses, came, asked }), () => process.exit());
