// A bare TLS byte pipe on node:tls: what Node itself costs, with no HTTP at all. byte-pipe.ts '{"listen", "target", ...}'
import tls from "node:tls";

const { listen, target, ca, certificate, key, protocol } = JSON.parse(process.argv[2] ?? "{}") as {
  listen: number;
  target: number;
  /** What both sides agree on by ALPN; nothing unless told. */
  protocol?: string;
  ca: string;
  certificate: string;
  key: string;
};
const secureContext = tls.createSecureContext({ ca });
const offered = protocol === undefined ? {} : { ALPNProtocols: [protocol] };
const server = tls.createServer({ cert: certificate, key, noDelay: true, ...offered }, (client) => {
  const upstream = tls.connect({ host: "127.0.0.1", port: target, secureContext, ...offered });
  upstream.setNoDelay(true);
  const pass = (from: tls.TLSSocket, to: tls.TLSSocket) => {
    from.on("data", (bytes: Buffer) => {
      if (!to.write(bytes)) from.pause();
    });
    to.on("drain", () => from.resume());
    from.on("end", () => to.end());
    from.on("error", () => to.destroy());
    from.on("close", () => to.destroy());
  };
  pass(client, upstream);
  pass(upstream, client);
});
server.listen(listen, "127.0.0.1", 4096, () => console.log("ready"));
