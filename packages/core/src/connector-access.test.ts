// A generated kubeconfig as access for our own transport: through the proxy's CONNECT, with its words where it refuses, and with the
// files as they are now.
import { type AddressInfo, createServer, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { createTestCa } from "../../../test/kit/certificates.ts";
import { connectorAccess } from "./connector-access.ts";
import { openApiServer } from "./api-server.ts";
import { renderKubeconfig, tunnelUrl } from "./kubeconfig.ts";
import { Secret } from "./secret.ts";

const connector = { namespace: "team-a", name: "prod" };

/** A target that answers each request with the Authorization it had, a proxy in front of it, and a kubeconfig for both. */
async function startScene(refusal?: string, host = "127.0.0.1") {
  const ca = await createTestCa();
  const { certificate, key } = await ca.leaf(["127.0.0.1"]);
  const target = createTlsServer({ cert: certificate, key }, (socket) => {
    socket.on("error", () => undefined);
    socket.on("data", (head) => {
      const shown = /^authorization: (.*)$/im.exec(head.toString())?.[1] ?? "";
      const body = JSON.stringify({ shown });
      socket.write(
        `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    });
  });
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const proxy = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("data", (head) => {
      asked.push(head.toString());
      if (refusal !== undefined) {
        socket.end(refusal);
        return;
      }
      // In two pieces, as a network may have it.
      socket.write("HTTP/1.1 200 O");
      setTimeout(() => {
        socket.write("K\r\n\r\n");
        target.emit("connection", socket);
      }, 10);
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, host, resolve));
  const { port } = proxy.address() as AddressInfo;
  const folder = await mkdtemp(join(tmpdir(), "access-"));
  const file = join(folder, "kubeconfig");
  const write = (token: string, tokenFile?: string) =>
    writeFile(
      file,
      renderKubeconfig({
        server: "https://127.0.0.1:6443",
        proxyUrl: tunnelUrl(`http://${host === "::1" ? "[::1]" : host}:${port}`, connector, new Secret("tunnel")),
        ca: ca.certificate,
        token: new Secret(token),
        ...(tokenFile === undefined ? {} : { tokenFile }),
      }).reveal(),
    );
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
    await rm(folder, { recursive: true, force: true });
  });
  return { asked, file, folder, write };
}

async function ask(file: string): Promise<string> {
  const api = openApiServer(await connectorAccess(file));
  try {
    return (await api.request<{ shown: string }>("GET", "/api")).shown;
  } finally {
    await api.stop();
  }
}

test.each(["127.0.0.1", "::1"])(
  "CONNECT at %s has the tunnel token, what is inside the request token",
  async (host) => {
    const { asked, file, write } = await startScene(undefined, host);
    await write("request");
    expect((await connectorAccess(file)).connector).toBe("team-a/prod");
    expect(await ask(file)).toBe("Bearer request");
    const credentials = Buffer.from("team-a/prod:tunnel").toString("base64");
    expect(asked[0]).toContain("CONNECT 127.0.0.1:6443 HTTP/1.1");
    expect(asked[0]).toContain(`Proxy-Authorization: Basic ${credentials}`);
    expect(asked[0]).not.toContain("request");
  },
);

test("the token file counts before the token in the kubeconfig, as far as it is there and can be read", async () => {
  const { file, folder, write } = await startScene();
  await write("inside", "token");
  expect(await ask(file)).toBe("Bearer inside");
  await writeFile(join(folder, "token"), "newer\n");
  expect(await ask(file)).toBe("Bearer newer");
  await write("inside", ".");
  await expect(connectorAccess(file)).rejects.toThrow(`Cannot read the token . of ${file}`);
});

test.each([
  [
    "HTTP/1.1 403 connector team-a/prod reaches only 10.0.0.1:6443\r\n\r\n",
    "permission_denied",
    "403 connector team-a/prod reaches only",
  ],
  ["HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "unauthenticated", "407 Proxy Authentication Required"],
  ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "unavailable", "did not answer CONNECT with HTTP"],
  ["", "unavailable", "did not answer CONNECT with HTTP"],
])("a proxy that says %j is told in its own words, without the token", async (said, code, words) => {
  const { file, write } = await startScene(said);
  await write("request");
  const refused = await ask(file).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code, message: expect.stringContaining(words) });
  expect(inspect(refused)).not.toMatch(/:tunnel|dGVhbS1h|Bearer/);
});
