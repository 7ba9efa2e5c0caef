import { connect } from "node:net";

// Opens tunnels and says nothing in them: PORT, COUNT and the CONNECT, as arguments. A process of its own, because its sockets count
// against its own descriptors. Writes "open N refused M" when all are answered, and ends with its standard input.

const [port = "", count = "", request = ""] = process.argv.slice(2);
let open = 0;

async function openOne(): Promise<void> {
  const socket = connect({ host: "127.0.0.1", port: Number(port) });
  await new Promise<void>((answered) => {
    socket.on("error", () => undefined);
    socket.once("data", (bytes: Buffer) => {
      if (bytes.toString("latin1").startsWith("HTTP/1.1 200 ")) open += 1;
      answered();
    });
    socket.once("close", answered);
    socket.write(request);
  });
}

async function openMany(share: number): Promise<void> {
  for (let made = 0; made < share; made++) await openOne();
}

const lanes = 100;
await Promise.all(Array.from({ length: lanes }, () => openMany(Number(count) / lanes)));
process.stdout.write(`open ${open} refused ${Number(count) - open}\n`);
process.stdin.once("end", () => process.exit()).resume();
