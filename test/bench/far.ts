// A long way to a target: passes bytes on, in both directions, each so many milliseconds later. TCP's own handshake is not
// slowed. far.ts '{"listen", "target", "milliseconds"}'
import { connect, createServer, type Socket } from "node:net";

const { listen, target, milliseconds } = JSON.parse(process.argv[2] ?? "{}") as {
  listen: number;
  target: number;
  milliseconds: number;
};
const options = { allowHalfOpen: true, noDelay: true };
const server = createServer(options, (near) => {
  const far = connect({ host: "127.0.0.1", port: target, ...options });
  const pass = (from: Socket, to: Socket) => {
    const later = (act: () => void) => void setTimeout(act, milliseconds);
    from.on("data", (bytes: Buffer) => later(() => to.write(bytes)));
    from.on("end", () => later(() => to.end()));
    from.on("error", () => undefined);
    from.on("close", () => later(() => to.destroy()));
  };
  pass(near, far);
  pass(far, near);
});
server.listen(listen, "127.0.0.1", 4096, () => console.log("ready"));
