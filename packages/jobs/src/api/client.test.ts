// A client of a server that is restarted under it, or to which the way breaks: what it follows goes on exactly, what it waits for is
// waited for, and a mistake is told at once.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { connectJobs, type RemoteJobs } from "./client.ts";

const id = "01m7zhvkdmb807nvsxkz38tfne";

/** A server that answers one request after the other so; the last answer stays. */
async function startServer(
  ...answers: ((response: ServerResponse) => void)[]
): Promise<{ jobs: RemoteJobs; requests: IncomingMessage[] }> {
  const folder = await mkdtemp(join(tmpdir(), "jobs-client-"));
  await writeFile(join(folder, "token"), "a-token");
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    (answers[requests.length] ?? answers.at(-1))?.(response);
    requests.push(request);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const jobs = connectJobs({ url: `http://127.0.0.1:${port}`, tokenFile: join(folder, "token"), silence: 300 });
  onTestFinished(async () => {
    await jobs.stop();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(folder, { recursive: true });
  });
  return { jobs, requests };
}

const refuse = (status: number) => (response: ServerResponse) => {
  const [code, message] = status === 403 ? ["permission_denied", "not you"] : ["unavailable", "not now"];
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ error: { code, message } }));
};
const lines = (...events: [string, string][]) =>
  events.map(([at, line]) => `event: log\nid: 0:${at}\ndata: ${JSON.stringify({ lines: [line] })}\n\n`).join("");
const end = `event: end\nid: 1:9\ndata: {}\n\n`;

async function linesOf(jobs: RemoteJobs): Promise<string[]> {
  const found: string[] = [];
  for await (const piece of jobs.followLog(id, { signal: AbortSignal.timeout(15_000) })) found.push(...piece.lines);
  return found;
}

test("a log goes on after a broken stream, 503, 504 and a stream that has fallen silent, from where it was", async ({
  expect,
}) => {
  const { jobs, requests } = await startServer(
    (response) => void response.write(lines(["4", "one"]), () => response.destroy()),
    refuse(503),
    refuse(504),
    (response) => void response.write(lines(["7", "two"])),
    (response) => void response.end(lines(["9", "three"]) + end),
  );
  expect(await linesOf(jobs)).toEqual(["one", "two", "three"]);
  expect(requests.map(({ headers }) => headers["last-event-id"])).toEqual(["0:0", "0:4", "0:4", "0:4", "0:7"]);
});

test("a run is waited for while its server is away", async () => {
  const { jobs, requests } = await startServer(
    (response) => response.destroy(),
    refuse(503),
    (response) => void response.end(JSON.stringify({ run: { id, state: "Succeeded", endedAt: "x", log: {} } })),
  );
  expect(await jobs.wait(id, AbortSignal.timeout(15_000))).toMatchObject({ state: "Succeeded" });
  expect(requests.length).toBe(3);
});

test("what will not change is told at once", async () => {
  const { jobs, requests } = await startServer(refuse(403));
  await expect(linesOf(jobs)).rejects.toMatchObject({ code: "permission_denied", message: "not you" });
  await expect(jobs.wait(id, AbortSignal.timeout(5000))).rejects.toThrow("not you");
  expect(requests.length).toBe(2);
});

test("a client that is stopped asks no more", async () => {
  const { jobs, requests } = await startServer((response) => response.destroy());
  const following = linesOf(jobs);
  await expect.poll(() => requests.length).toBe(1);
  await jobs.stop();
  expect(await following).toEqual([]);
  expect(requests.length).toBe(1);
});
