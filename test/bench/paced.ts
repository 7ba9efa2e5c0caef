import { otherCore, start } from "./machine.ts";
import type { Bench, Subject } from "./peers.ts";

/** Requests a second, and of each turn: so short that direct and proxied ones see the same machine. */
const perSecond = 500;
const perTurn = 100;
const path = "/api/v1/namespaces/team-a/serviceaccounts?limit=1";

/** What something between client and target adds, in milliseconds, and the direct request's own. */
export interface Added {
  direct: { p50: number; p99: number };
  p50: number;
  p99: number;
}

/**
 * 500 requests a second to the kube-apiserver, in turns directly and through our whole proxy (over HTTP/1.1 also through a
 * bare TLS byte pipe), by Go's client, which sends each when its time has come and waits for none.
 */
export async function addedLatency(bench: Bench, goPeer: string, how: { http2: boolean; seconds: number }) {
  const { plane, adminToken } = bench;
  const { port } = new URL(plane.url);
  const behind = { port: Number(port), caBundle: plane.ca };
  const ours = await bench.ours("ours, API server", { ...behind, token: adminToken, whole: true });
  const [direct, pipe] = [
    { port: behind.port, host: `127.0.0.1:${port}` },
    how.http2 ? [] : [await bench.byteInFrontOf(behind.port, { caBundle: plane.ca })],
  ];
  const own = `Bearer ${adminToken}`;
  const servers = [
    { ...direct, authorization: own },
    { port: ours.port, authorization: authorizationOf(ours) },
    ...pipe.map((one) => ({ port: one.port, authorization: own })),
  ];
  const turns = Math.ceil((how.seconds * perSecond) / perTurn);
  const asked = { servers, perSecond, turns, count: perTurn, path, http2: how.http2, shares: [0.5, 0.99] };
  await using paced = await start(otherCore, [goPeer, "paced", JSON.stringify(asked)]);
  await paced.ended;
  if (paced.child.exitCode !== 0) throw new Error(`the paced client ended with status ${paced.child.exitCode}`);
  const [base = [], ...others] = JSON.parse(paced.said()) as number[][];
  const at = (quantiles: number[], index: number) => quantiles[index] ?? Number.NaN;
  const added = (quantiles: number[]): Added => ({
    direct: { p50: at(base, 0), p99: at(base, 1) },
    p50: at(quantiles, 0) - at(base, 0),
    p99: at(quantiles, 1) - at(base, 1),
  });
  return { ours: added(others[0] ?? []), pipe: others[1] === undefined ? undefined : added(others[1]) };
}

function authorizationOf(subject: Subject): string {
  return subject.headers.find((line) => line.startsWith("Authorization: "))?.slice(15) ?? "";
}
