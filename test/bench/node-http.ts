// A forwarder on node:https and https.request with a keep-alive agent: what http-proxy and its kin are made of.
import https from "node:https";
import { pipeline } from "node:stream";

const { listen, target, ca, certificate, key, token } = JSON.parse(process.argv[2] ?? "{}") as {
  listen: number;
  target: number;
  ca: string;
  certificate: string;
  key: string;
  token: string;
};
const agent = new https.Agent({ keepAlive: true, ca, host: "127.0.0.1", port: target });
const server = https.createServer({ cert: certificate, key }, (request, response) => {
  const headers = { ...request.headers, host: `127.0.0.1:${target}`, authorization: `Bearer ${token}` };
  const upstream = https.request({ agent, method: request.method, path: request.url, headers }, (answer) => {
    if (response.destroyed) {
      answer.destroy();
      return;
    }
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    pipeline(answer, response, () => undefined);
  });
  upstream.on("error", () => response.destroy());
  pipeline(request, upstream, () => undefined);
});
server.listen(listen, "127.0.0.1", 4096, () => console.log("ready"));
