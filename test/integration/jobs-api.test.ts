// The HTTP API of the jobs module before a real API server: who may call, what each route answers, what is told of wrong
// input, and live events that can be cut anywhere and lose nothing.
import { readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { connectJobs, type Jobs, type RemoteJobs, type RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestCa } from "../kit/certificates.ts";
import { apiToken, readEvents, type ServedJobs, type ServerEvent, serveJobs } from "../kit/jobs-api.ts";
import { definition, left, numbered } from "../kit/jobs-checks.ts";
import { connector, type JobsRoom, namespace, startJobsRoom } from "../kit/jobs-room.ts";
import { createRandom } from "../kit/random.ts";

let room: JobsRoom;
let served: ServedJobs;
let pinged: Promise<string>;
const leave = new AbortController();

beforeAll(async () => {
  room = await startJobsRoom();
  served = await serveJobs(room);
  // A run in which nothing happens: whether its reader hears of us is asked at the end.
  const idle = await submit(definition({ stay: -1 }));
  const response = await served.ask("GET", `/v1/runs/${idle.id}/events`, { signal: leave.signal });
  pinged = (async () => {
    let text = "";
    for await (const piece of response.body ?? []) {
      text += Buffer.from(piece).toString();
      if (text.includes(": ping\n\n")) break;
    }
    return text;
  })();
  pinged.catch(() => undefined);
});
afterAll(async () => {
  leave.abort();
  await served?.stop();
  await room?.stop();
});

interface ApiError {
  error: { code: string; message: string };
}
const refused = (status: number, ...asked: Parameters<ServedJobs["ask"]>) =>
  served.json<ApiError>(status, ...asked).then(({ error }) => error);
const submit = async (body: object) => (await served.json<{ run: RunRecord }>(201, "POST", "/v1/runs", { body })).run;
const get = async (id: string) => (await served.json<{ run: RunRecord }>(200, "GET", `/v1/runs/${id}`)).run;
const wait = async (id: string) => (await served.json<{ run: RunRecord }>(200, "GET", `/v1/runs/${id}/wait`)).run;
const linesOf = (events: readonly ServerEvent[]) =>
  events.filter(({ type }) => type === "log").flatMap(({ data }) => data.lines ?? []);
const wordsOf = (lines: readonly string[]) =>
  lines.filter((line) => !line.startsWith("#")).map((line) => line.slice(line.indexOf("] ") + 2));

test("everything but probes and the page wants the token, and takes the one that the file holds now", async () => {
  for (const path of ["/livez", "/readyz", "/", "/page.js", "/draw.js", "/calls.js", "/page.css"]) {
    const response = await fetch(served.url + path);
    expect([path, response.status]).toEqual([path, 200]);
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
    await response.text();
  }
  for (const path of ["/metrics", "/openapi.json", "/v1/runs", "/v1/connectors", "/v1/none", "/none"]) {
    const answers = [
      await fetch(served.url + path),
      await served.ask("GET", path, { headers: { authorization: "Bearer other" } }),
      await served.ask("GET", path, { headers: { authorization: `Basic ${btoa(`:${apiToken}`)}` } }),
      await served.ask("GET", `${path}?token=${apiToken}`, { headers: { authorization: "" } }),
    ];
    expect([path, ...answers.map(({ status }) => status)]).toEqual([path, 401, 401, 401, 401]);
    expect(answers[0]?.headers.get("www-authenticate")).toBe("Bearer");
    expect(await answers[0]?.json()).toEqual({
      error: { code: "unauthenticated", message: "Send the server's token as Authorization: Bearer" },
    });
  }
  const works = (token: string) =>
    served.ask("GET", "/v1/connectors", { headers: { authorization: `Bearer ${token}` } }).then(({ status }) => status);
  await writeFile(served.tokenFile, "another-one");
  await expect.poll(() => works("another-one"), { timeout: 5000 }).toBe(200);
  expect(await works(apiToken)).toBe(401);
  await writeFile(served.tokenFile, "");
  await expect.poll(() => works(""), { timeout: 5000 }).toBe(503);
  await writeFile(served.tokenFile, apiToken);
  await expect.poll(() => works(apiToken), { timeout: 5000 }).toBe(200);
});

test("other addresses than loopback are served with TLS only", async () => {
  const listen = { host: "0.0.0.0", port: 0 };
  await expect(serveJobs(room, { listen })).rejects.toThrow("who would see the token: give a certificate and its key");
  const ca = await createTestCa("jobs");
  const leaf = await ca.leaf(["127.0.0.1"]);
  const folder = await room.folder();
  const tls = { certificate: join(folder, "tls.crt"), key: join(folder, "tls.key") };
  await writeFile(tls.certificate, leaf.certificate);
  await writeFile(tls.key, leaf.key);
  const secure = await serveJobs(room, { listen, tls });
  const jobs = connectJobs({
    url: `https://127.0.0.1:${secure.service.port}`,
    tokenFile: secure.tokenFile,
    ca: ca.certificate,
  });
  try {
    expect(await jobs.list({ limit: 1 })).toEqual({ runs: [] });
    const stranger = connectJobs({ url: `https://127.0.0.1:${secure.service.port}`, tokenFile: secure.tokenFile });
    await expect(stranger.list({ limit: 1 })).rejects.toThrow("Cannot reach the server");
    await stranger.stop();
  } finally {
    await jobs.stop();
    await secure.stop();
  }
});

test("wrong input is told in sentences, all at once, and nothing is kept of it", async () => {
  const before = (await served.json<{ runs: object[] }>(200, "GET", "/v1/runs?limit=1000")).runs.length;
  const mistakes = await refused(400, "POST", "/v1/runs", {
    body: { connector: "nowhere/none", name: "Not A Name", parallelism: -1, colour: "red" },
  });
  expect(mistakes.code).toBe("invalid_argument");
  for (const part of ["connector", "name", "parallelism", "colour", "image"]) expect(mistakes.message).toContain(part);
  const asked = await refused(400, "GET", "/v1/runs?limit=0&state=Happy&colour=red");
  for (const part of ["limit: should be from 1 to 1000", "state", "colour"]) expect(asked.message).toContain(part);
  expect((await refused(400, "POST", "/v1/runs", { body: '{"image":' })).message).toBe("The body is no JSON");
  const plain = { body: "{}", headers: { "content-type": "text/plain" } };
  expect((await refused(400, "POST", "/v1/runs", plain)).message).toContain("application/json");
  const large = { body: { image: "x".repeat(1_048_576) } };
  expect((await refused(413, "POST", "/v1/runs", large)).message).toBe("A body may have 1048576 bytes");
  expect((await refused(400, "POST", "/v1/runs", { body: [] })).code).toBe("invalid_argument");
  expect(
    (await refused(400, "POST", "/v1/runs", { body: {}, headers: { "idempotency-key": "a b" } })).message,
  ).toContain("Idempotency-Key");
  expect((await refused(400, "GET", "/v1/runs/%E0%A4%A")).message).toContain("The request cannot be read");
  expect((await refused(404, "PUT", "/v1/runs")).message).toContain("There is no PUT /v1/runs; /openapi.json lists");
  for (const path of ["01k9zzzzzzzzzzzzzzzzzzzzzz", "..%2f..%2fetc", "x"]) {
    expect((await refused(404, "GET", `/v1/runs/${path}`)).message).toContain("There is no run");
    for (const rest of ["/logs", "/events", "/wait"]) await refused(404, "GET", `/v1/runs/${path}${rest}`);
    for (const rest of ["/cancel", "/retry", "/suspend", "/resume"])
      await refused(404, "POST", `/v1/runs/${path}${rest}`, { body: {} });
    await refused(404, "DELETE", `/v1/runs/${path}`);
  }
  expect((await served.json<{ runs: object[] }>(200, "GET", "/v1/runs?limit=1000")).runs.length).toBe(before);
});

test("a dry run shows the Job, on the server's word when asked, and keeps nothing", async () => {
  const body = definition({}, { name: "dry" });
  for (const where of ["client", "server"]) {
    const { manifest } = await served.json<{ manifest: object }>(200, "POST", `/v1/runs?dryRun=${where}`, { body });
    expect(manifest).toMatchObject({ kind: "Job", metadata: { namespace } });
  }
  const wrong = { ...body, patch: { spec: { template: { spec: { restartPolicy: "Always" } } } } };
  expect((await refused(400, "POST", "/v1/runs?dryRun=server", { body: wrong })).message).toContain("restartPolicy");
  expect((await served.json<{ runs: object[] }>(200, "GET", "/v1/runs?name=dry")).runs).toEqual([]);
});

test("an idempotency key gives the same run for the same body, and refuses another body", async () => {
  const headers = { "idempotency-key": "order-66" };
  const body = definition({});
  const first = await served.json<{ run: RunRecord }>(201, "POST", "/v1/runs", { body, headers });
  const again = await served.json<{ run: RunRecord }>(200, "POST", "/v1/runs", { body, headers });
  expect(again.run.id).toBe(first.run.id);
  const other = definition({}, { name: "other" });
  expect((await refused(409, "POST", "/v1/runs", { body: other, headers })).code).toBe("conflict");
  await wait(first.run.id);
});

test("a run is listed, waited for, read in whole and in parts, searched, and forgotten once it has ended", async () => {
  const { id } = await submit(definition({ lines: 120, every: 5, exit: 3 }, { name: "reader" }));
  expect((await refused(409, "DELETE", `/v1/runs/${id}`)).message).toContain("has not ended: cancel it first");
  expect(await wait(id)).toMatchObject({ id, state: "Failed", diagnosis: { category: "AppExit" } });
  const { runs } = await served.json<{ runs: RunRecord[] }>(200, "GET", "/v1/runs?state=Failed&state=Lost&name=reader");
  expect(runs.map((run) => run.id)).toEqual([id]);
  const page = await served.json<{ runs: RunRecord[]; next: string }>(200, "GET", "/v1/runs?limit=1");
  const next = await served.json<{ runs: RunRecord[] }>(200, "GET", `/v1/runs?limit=1&cursor=${page.next}`);
  expect(next.runs[0]?.id).not.toBe(page.runs[0]?.id);

  const path = `/v1/runs/${id}/logs`;
  const whole = await (await served.ask("GET", path)).text();
  expect(wordsOf(whole.trimEnd().split("\n"))).toEqual(numbered(120));
  const part = async (range: string) => {
    const response = await served.ask("GET", path, { headers: { range } });
    return [response.status, response.headers.get("content-range"), await response.text()];
  };
  const size = Buffer.byteLength(whole);
  expect(await part("bytes=100-199")).toEqual([206, "bytes 100-199/*", whole.slice(100, 200)]);
  expect(await part(`bytes=${size - 5}-`)).toEqual([206, `bytes ${size - 5}-${size - 1}/*`, whole.slice(-5)]);
  expect(await part(`bytes=10-${size + 99}`)).toEqual([206, `bytes 10-${size - 1}/*`, whole.slice(10)]);
  expect(await part(`bytes=${size}-`)).toEqual([416, null, ""]);
  expect(await part("bytes=9-3")).toEqual([200, null, whole]);
  expect(await part("lines=1-3")).toEqual([200, null, whole]);
  const search = (query: string) =>
    served.json<{ lines: { line: string; offset: number }[] }>(200, "GET", path + query);
  const { lines } = await search("?search=LINE+11");
  expect(wordsOf(lines.map(({ line }) => line))).toEqual([
    "line 11",
    ...Array.from({ length: 10 }, (_, n) => `line 11${n}`),
  ]);
  for (const { line, offset } of lines) expect(whole.slice(offset, offset + line.length)).toBe(line);
  expect((await search("?search=line&limit=2")).lines.length).toBe(2);
  expect((await search("?search=nothing+like+it")).lines).toEqual([]);
  expect((await search("?search=line&container=other")).lines).toEqual([]);
  expect(await (await served.ask("GET", `${path}?view=pod&container=main`)).text()).toContain("line 119\n");

  expect((await served.ask("DELETE", `/v1/runs/${id}`)).status).toBe(204);
  await refused(404, "GET", path);
  await refused(404, "GET", `/v1/runs/${id}`);
});

test("a run is suspended, resumed and cancelled; one that has ended is neither, and runs again as a new one", async () => {
  const { id } = await submit(definition({ lines: 1, stay: -1 }, { name: "verbs" }));
  const state = async () => (await get(id)).state;
  await expect.poll(state, { timeout: 20_000 }).toBe("Running");
  await served.json(202, "POST", `/v1/runs/${id}/suspend`, { body: {} });
  expect((await wait(id)).state).toBe("Suspended");
  await served.json(202, "POST", `/v1/runs/${id}/resume`, { body: {} });
  await expect.poll(state, { timeout: 20_000 }).toBe("Running");
  await refused(400, "POST", `/v1/runs/${id}/cancel`, { body: { force: "yes" } });
  await refused(409, "POST", `/v1/runs/${id}/retry`, { body: {} });
  await served.json(202, "POST", `/v1/runs/${id}/cancel`, { body: { propagation: "Foreground" } });
  expect((await wait(id)).state).toBe("Cancelled");
  await refused(409, "POST", `/v1/runs/${id}/cancel`, { body: {} });
  const again = (await served.json<{ run: RunRecord }>(201, "POST", `/v1/runs/${id}/retry`)).run;
  expect(again).toMatchObject({ retryOf: id, name: "verbs" });
  await served.json(202, "POST", `/v1/runs/${again.id}/cancel`);
  expect((await wait(again.id)).state).toBe("Cancelled");
});

test("connectors, sources, clean-up and figures are told", async () => {
  expect(await served.json(200, "GET", "/v1/connectors")).toEqual({
    connectors: [{ name: connector, defaultNamespace: namespace }],
  });
  const where = `connector=${encodeURIComponent(connector)}&namespace=${namespace}`;
  expect(await served.json(200, "GET", `/v1/sources?${where}&kind=CronJob`)).toEqual({ items: [] });
  expect((await refused(400, "GET", `/v1/sources?${where}&kind=Pod`)).message).toContain("kind");
  await refused(404, "GET", `/v1/sources?connector=no/such&namespace=x&kind=Job`);
  expect(await served.json(200, "POST", "/v1/clean", { body: {} })).toMatchObject({ problems: [] });
  const metrics = await (await served.ask("GET", "/metrics")).text();
  expect(metrics).toMatch(/^kube_connector_jobs_runs\{state="Running"\} [1-9]/m);
  expect(metrics).toMatch(/^kube_connector_jobs_submits_total\{result="refused"\} [1-9]/m);
  for (const name of ["submit_seconds", "api_requests_total", "watches", "log_follows", "cleanup_pending"])
    expect(metrics).toContain(`kube_connector_jobs_${name}`);
});

test("events cut at any byte and gone on with lose nothing and double nothing, and end with 204", async () => {
  const { id } = await submit(definition({ lines: 600, every: 4 }, { completions: 2, parallelism: 2 }));
  const random = createRandom(20_260_301);
  const seen: ServerEvent[] = [];
  let cuts = 0;
  /** Of a log that is there already one event may be longer than that. */
  let most = 6000;
  for (let status = 200; status === 200; cuts++) {
    const bytes = 1 + random.number(most);
    const found = await readEvents(served, id, { after: seen.at(-1)?.id ?? "", bytes });
    most = found.events.length === 0 ? most + 1000 : 6000;
    seen.push(...found.events);
    status = found.status;
  }
  expect(cuts).toBeGreaterThan(10);
  const numbers = seen.flatMap(({ data }) => data.number ?? []);
  const last = numbers.length;
  expect(numbers).toEqual(Array.from({ length: last }, (_, at) => at + 1));
  expect(seen.at(-1)?.type === "end" || seen.some(({ type }) => type === "end")).toBe(true);
  const lines = linesOf(seen);
  expect(lines.join("\n")).toBe((await readFile(join(served.folder, "logs", id, "live.log"), "utf8")).trimEnd());
  expect(wordsOf(lines).toSorted()).toEqual([...numbered(600), ...numbered(600)].toSorted());
  const again = () => readEvents(served, id, { after: seen.at(-1)?.id ?? "" });
  expect(await again()).toEqual({ status: 204, events: [], text: "" });
  // Also when more has happened to the run since.
  await expect.poll(async () => (await get(id)).cleanup.state, { timeout: 30_000 }).toBe("Done");
  expect(await again()).toEqual({ status: 204, events: [], text: "" });
  const states = seen.filter(({ type }) => type === "state").map(({ data }) => data.data?.state);
  expect(states[0]).toBe("Submitting");
  expect(states.at(-1)).toBe("Succeeded");
  const quiet = await readEvents(served, id, { query: "?logs=false" });
  expect(quiet.events.map(({ type }) => type)).not.toContain("log");
  await refused(400, "GET", `/v1/runs/${id}/events`, { headers: { "last-event-id": "yesterday" } });
});

test("a reader that does not read keeps nobody waiting, and gets everything later", async () => {
  const { id } = await submit(definition({ lines: 60_000, text: " ".padEnd(200, "x"), stay: 500 }));
  const slow = connect(served.service.port, "127.0.0.1");
  slow.on("error", () => undefined);
  slow.pause();
  slow.write(`GET /v1/runs/${id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${apiToken}\r\n\r\n`);
  const quick = linesOf((await readEvents(served, id)).events);
  expect(wordsOf(quick).length).toBe(60_000);
  expect((await get(id)).state).toBe("Succeeded");
  let late = "";
  slow.setEncoding("utf8");
  slow.on("data", (piece: string) => (late += piece));
  slow.resume();
  await expect.poll(() => late.includes("event: end\n"), { timeout: 60_000 }).toBe(true);
  slow.destroy();
  expect(late.match(/line \d+ x/g)?.length).toBe(60_000);
});

test("the calls are the same in this process and at a server", async () => {
  const local = await room.start(await room.folder());
  const remote = connectJobs({ url: served.url, tokenFile: served.tokenFile });
  try {
    const answers = [await useCalls(local.jobs), await useCalls(remote)];
    expect(answers[1]).toEqual(answers[0]);
  } finally {
    await remote.stop();
    await local.stop();
  }
});

test("a reader to whom nothing happens hears a ping", async () => {
  expect(await pinged).toContain(": ping\n\n");
});

/** Submits, follows, reads, cancels, repeats; what came of it, without what differs from run to run. */
async function useCalls(jobs: Omit<Jobs, "done" | "figures"> | RemoteJobs): Promise<object> {
  const signal = AbortSignal.timeout(60_000);
  const words = (error: unknown) => (error instanceof Error ? error.message.replaceAll(/[0-9a-z]{26}/g, "RUN") : "");
  const { run, created } = await jobs.submit(definition({ lines: 50, every: 2 }), { idempotencyKey: "calls" });
  const again = await jobs.submit(definition({ lines: 50, every: 2 }), { idempotencyKey: "calls" });
  const types = new Set<string>();
  for await (const { type } of jobs.follow(run.id, 0, signal)) types.add(type);
  const live: string[] = [];
  for await (const { lines } of jobs.followLog(run.id, { signal })) live.push(...lines);
  const log: Buffer[] = [];
  for await (const piece of jobs.readLog(run.id)) log.push(piece);
  const found: string[] = [];
  for await (const { line } of jobs.searchLog(run.id, "line 4", { limit: 3 })) found.push(line);
  const ended = await jobs.wait(run.id, signal);
  const late = await jobs.cancel(run.id).catch(words);
  const second = await jobs.retry(run.id);
  const third = (await jobs.submit(definition({ stay: -1 }))).run;
  const still = await jobs.wait(third.id, AbortSignal.timeout(300));
  await jobs.cancel(third.id);
  return {
    created: [created, again.created, again.run.id === run.id],
    types: [...types].sort(),
    live: wordsOf(live),
    log: wordsOf(Buffer.concat(log).toString().trimEnd().split("\n")),
    found: wordsOf(found),
    ended: [ended.state, ended.progress.succeeded, ended.log?.lines],
    late,
    second: [second.retryOf === run.id, (await jobs.wait(second.id, signal)).state],
    third: [still.endedAt, (await jobs.wait(third.id, signal)).state],
    left: await left(room, `connectors.cpaas.io/run-id=${third.id}`),
    wrong: await jobs.submit({ name: "Not A Name" }).catch(words),
    none: await jobs.get("01k9zzzzzzzzzzzzzzzzzzzzzz").catch(words),
    dry: (await jobs.dryRun(definition({}), "server")).warnings,
    sources: (await jobs.discover({ connector, namespace, kind: "CronJob" })).items,
    connectors: await jobs.connectors(),
    monitor: await jobs.monitorUrl(ended),
    removed: [(await jobs.remove([run.id])).length, await jobs.get(run.id).catch(words)],
  };
}
