// A target for streams, on node:tls: after a head with Upgrade it answers 101 and sends 32 KB pieces for as long as it is
// listened to, or with /echo sends back what comes; a watch gets one event and is left open. stream-target.ts '{"listen", ...}'
import tls from "node:tls";

const { listen, certificate, key } = JSON.parse(process.argv[2] ?? "{}") as {
  listen: number;
  certificate: string;
  key: string;
};
const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const event = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n";
const piece = Buffer.alloc(32_768, "x");
const server = tls.createServer({ cert: certificate, key, noDelay: true }, (socket) => {
  socket.on("error", () => undefined);
  socket.once("data", (bytes: Buffer) => {
    const head = bytes.toString("latin1");
    if (!/^upgrade:/im.test(head)) {
      socket.write(event);
      return;
    }
    socket.write(switched);
    if (head.includes("/echo")) {
      socket.on("data", (more: Buffer) => socket.write(more));
      return;
    }
    const fill = () => {
      while (socket.writable && socket.write(piece));
    };
    socket.on("drain", fill);
    fill();
  });
});
server.listen(listen, "127.0.0.1", 4096, () => console.log("ready"));
