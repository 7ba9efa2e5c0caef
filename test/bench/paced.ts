import { otherCore, start } from "./machine.ts";
import type { Bench, Subject } from "./peers.ts";
import { type Measured, median, table } from "./rounds.ts";

/** Requests a second, and of each turn: a second of one, then of the next, so that they see the same machine. */
const perSecond = 500;
const perTurn = 500;
const path = "/api/v1/namespaces/team-a/serviceaccounts?limit=1";
const names = ["directly", "byte pipe", "haproxy", "ours"] as const;
type Name = (typeof names)[number];

/** What something between client and target adds, in milliseconds. */
export interface Added {
  p50: number;
  p99: number;
}

/**
 * 500 requests a second to the kube-apiserver, in turns directly, through a bare TLS byte pipe, through haproxy and through
 * our whole proxy, by Go's client, which sends each when its time has come and waits for none. What one adds is the
 * median of its turns, each less the direct one of the same round. Prints all of them.
 */
export async function addedLatency(bench: Bench, goPeer: string, how: { http2: boolean; seconds: number }) {
  const { plane, adminToken } = bench;
  const port = Number(new URL(plane.url).port);
  const behind = { caBundle: plane.ca, token: adminToken };
  const ours = await bench.ours("ours, API server", { ...behind, port, whole: true });
  const pipe = await bench.byteInFrontOf(port, { ...behind, ...(how.http2 ? { protocol: "h2" } : {}) });
  const haproxy = await bench.haproxyInFrontOf(port, { ...behind, protocol: how.http2 ? "h2" : "http/1.1" });
  const authorization = `Bearer ${adminToken}`;
  const servers = [
    { port, host: `127.0.0.1:${port}`, authorization },
    { port: pipe.port, authorization },
    { port: haproxy.port, authorization },
    { port: ours.port, authorization: authorizationOf(ours) },
  ];
  const turns = Math.ceil((how.seconds * perSecond) / perTurn);
  const asked = { servers, perSecond, turns, count: perTurn, path, http2: how.http2, shares: [0.5, 0.99] };
  await using paced = await start(otherCore, [goPeer, "paced", JSON.stringify(asked)]);
  await paced.ended;
  if (paced.child.exitCode !== 0) throw new Error(`the paced client ended with status ${paced.child.exitCode}`);
  const quantiles = JSON.parse(paced.said()) as number[][][];
  const of = (share: number) =>
    Object.fromEntries(
      names.map((name, server) => [name, (quantiles[server] ?? []).map((turn) => turn[share] ?? Number.NaN)]),
    ) as Measured<Name>;
  const [p50, p99] = [of(0), of(1)];
  table("500 requests a second, p50 of a turn", "ms", p50);
  table("500 requests a second, p99 of a turn", "ms", p99);
  const added = (measured: Measured<Name>, name: Name) =>
    median(measured[name].map((value, round) => value - (measured.directly[round] ?? Number.NaN)));
  const one = (name: Name): Added => ({ p50: added(p50, name), p99: added(p99, name) });
  for (const name of ["byte pipe", "haproxy"] as const) {
    console.log(`${name} adds: p50 ${one(name).p50.toFixed(2)} ms, p99 ${one(name).p99.toFixed(2)} ms`);
  }
  return one("ours");
}

function authorizationOf(subject: Subject): string {
  return subject.headers.find((line) => line.startsWith("Authorization: "))?.slice(15) ?? "";
}
