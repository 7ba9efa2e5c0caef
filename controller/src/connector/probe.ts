import { lookup } from "node:dns/promises";
import { Agent, request } from "node:http";
import { isIP, connect as netConnect, type Socket } from "node:net";
import { type ConnectionOptions, connect as tlsConnect, type TLSSocket } from "node:tls";
import {
  describeErrno,
  type DescribedConnector,
  errnoOf,
  refusedAddress,
  type Secret,
  type TargetAddress,
} from "@kube-connector/core";
import type { Verdict } from "./resolve.ts";

// One round of questions to a target: prefix + /livez, /api and /version on one new connection. The certificate is
// verified before the token is sent; redirects are not followed, they would carry the token away.

export interface ProbeInput {
  target: TargetAddress;
  tls: DescribedConnector["tls"];
  token: Secret;
  /** When the token says that it expires, milliseconds since 1970. */
  expiresAt: number | undefined;
  paths: { liveness: string; auth: string };
  /** Milliseconds for each request, and for the connection. */
  timeout: number;
  className: string;
}

export interface ProbeOutcome {
  liveness: Verdict;
  /** undefined when liveness failed: then it was not asked. */
  auth: Verdict | undefined;
  version: string | undefined;
}

export interface ProbeOptions {
  /** Loopback targets are refused unless a test says otherwise. */
  allowLoopback?: boolean;
  now: () => number;
  /** Ends the round. */
  signal?: AbortSignal;
}

const mostBody = 65_536;

export async function probeTarget(input: ProbeInput, options: ProbeOptions): Promise<ProbeOutcome> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  agent.createConnection = (_, done) => {
    dial(input, options).then(
      (socket) => done?.(null, socket),
      (error: Error) => done?.(error, undefined as never),
    );
    return undefined;
  };
  const failed = (verdict: Verdict): ProbeOutcome => ({ liveness: verdict, auth: undefined, version: undefined });
  try {
    const live = await ask(agent, input, input.paths.liveness, options.signal);
    // 401 and 403 are alive: reading /livez may need rights that the token lacks.
    if (live.status !== 200 && live.status !== 401 && live.status !== 403) {
      return failed(unexpected(input, input.paths.liveness, live.status));
    }
    const liveness: Verdict = input.tls.insecureSkipVerify
      ? {
          status: "True",
          reason: "InsecureSkipVerify",
          message: `The target ${input.target.authority} answers, but its certificate is not verified: whoever answers there receives the token. Give spec.tls.caBundle and remove insecureSkipVerify.`,
        }
      : { status: "True", reason: "Ready", message: `The target ${input.target.authority} answers.` };
    const auth = judgeAuth(input, (await ask(agent, input, input.paths.auth, options.signal)).status, options.now());
    const version = auth.status === "True" ? await askVersion(agent, input, options.signal) : undefined;
    return { liveness, auth, version };
  } catch (error) {
    return failed(connectionVerdict(input, error));
  } finally {
    agent.destroy();
  }
}

function unexpected(input: ProbeInput, path: string, status: number): Verdict {
  const redirect = status >= 300 && status < 400 ? " Redirects are not followed." : "";
  return {
    status: "False",
    reason: "UnexpectedStatus",
    message: `GET ${input.target.prefix}${path} at ${input.target.authority} answered ${status}.${redirect} See whether the address and its path prefix lead to a Kubernetes API server, and whether that is well.`,
  };
}

function judgeAuth(input: ProbeInput, status: number, now: number): Verdict {
  const { target } = input;
  if (status === 200) return { status: "True", reason: "Ready", message: `The target accepts the stored token.` };
  if (status !== 401 && status !== 403) return unexpected(input, input.paths.auth, status);
  if (status === 401 && input.expiresAt !== undefined && input.expiresAt <= now) {
    return {
      status: "False",
      reason: "CredentialExpired",
      message: `The stored token expired at ${new Date(input.expiresAt).toISOString()} and ${target.authority} refuses it; put a new token into the Secret.`,
    };
  }
  return {
    status: "False",
    reason: "AuthenticationFailed",
    message:
      status === 401
        ? `The target ${target.authority} does not know the stored token (401); it was revoked, or is for another cluster. Put a valid token into the Secret.`
        : `The target ${target.authority} knows the stored token but refuses GET ${target.prefix}${input.paths.auth} (403); give its user the ClusterRole system:discovery there.`,
  };
}

async function askVersion(
  agent: Agent,
  input: ProbeInput,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  try {
    const { status, body } = await ask(agent, input, "/version", signal);
    const { gitVersion } = JSON.parse(body) as { gitVersion?: unknown };
    return status === 200 && typeof gitVersion === "string" && /^[\w.+-]{1,64}$/.test(gitVersion)
      ? gitVersion
      : undefined;
  } catch {
    return undefined;
  }
}

function ask(
  agent: Agent,
  input: ProbeInput,
  path: string,
  signal: AbortSignal | undefined,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({
      agent,
      method: "GET",
      path: `${input.target.prefix}${path}`,
      headers: {
        host: input.target.hostHeader,
        authorization: `Bearer ${input.token.reveal()}`,
        accept: "application/json, */*",
        "user-agent": "kube-connector-controller",
      },
      maxHeaderSize: 65_536,
      ...(signal === undefined ? {} : { signal }),
    });
    const timer = setTimeout(() => sent.destroy(timedOut(input.timeout)), input.timeout);
    const end = (settle: () => void) => {
      clearTimeout(timer);
      settle();
    };
    sent.on("error", (error) => end(() => reject(error)));
    sent.on("upgrade", (_, socket) => socket.destroy());
    sent.on("response", (response) => {
      const parts: Buffer[] = [];
      let length = 0;
      const finish = () =>
        end(() => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString("utf8") }));
      response.on("error", (error) => end(() => reject(error)));
      response.on("data", (chunk: Buffer) => {
        length += chunk.length;
        if (length <= mostBody) parts.push(chunk);
        else {
          // The status is known; what is longer than this is not read to its end.
          finish();
          response.destroy();
        }
      });
      response.on("end", finish);
    });
    sent.end();
  });
}

function timedOut(milliseconds: number): Error {
  return Object.assign(new Error(`no answer within ${milliseconds} ms`), { code: "ETIMEDOUT" });
}

/** A TLS connection to the target, verified. */
async function dial(input: ProbeInput, options: ProbeOptions): Promise<TLSSocket> {
  const addresses = await resolveTarget(input, options);
  let last: unknown;
  for (const address of addresses) {
    try {
      return await secure(input, address, options.signal);
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

/** A refusal of ours to dial an address. */
class RefusedAddress extends Error {}

async function resolveTarget(input: ProbeInput, options: ProbeOptions): Promise<string[]> {
  const { host } = input.target;
  const found = input.target.isIp ? [host] : (await lookup(host, { all: true })).map(({ address }) => address);
  const why = (address: string) => refusedAddress(address, { loopback: options.allowLoopback === true });
  const allowed = found.filter((address) => why(address) === undefined);
  if (allowed.length > 0) return allowed;
  throw new RefusedAddress(
    `it leads to ${found[0] ?? "nothing"}, a ${why(found[0] ?? "")} address, which is never dialled; give an address of the target's API server`,
  );
}

/** TCP first, so that its failure is told as it is and not as TLS that closed. */
async function secure(input: ProbeInput, address: string, signal: AbortSignal | undefined): Promise<TLSSocket> {
  const { port } = input.target;
  const raw: Socket = netConnect({ host: address, port, noDelay: true, ...(signal === undefined ? {} : { signal }) });
  await settle(raw, "connect", raw, input.timeout);
  const name = input.tls.serverName ?? input.target.host;
  const options: ConnectionOptions = {
    socket: raw,
    host: name,
    // An IP is no server name (RFC 6066 §3).
    ...(isIP(name) === 0 ? { servername: name } : {}),
    ...(input.tls.caBundle === undefined ? {} : { ca: input.tls.caBundle }),
    minVersion: "TLSv1.2",
    ALPNProtocols: ["http/1.1"],
    rejectUnauthorized: !input.tls.insecureSkipVerify,
  };
  const socket = tlsConnect(options);
  await settle(socket, "secureConnect", raw, input.timeout);
  if (input.tls.insecureSkipVerify || socket.authorized) return socket;
  socket.destroy();
  throw new Error("the certificate is not verified");
}

/** Waits for that event; its error, its end and the time limit reject, and destroy both. */
function settle(socket: Socket, event: "connect" | "secureConnect", raw: Socket, timeout: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => {
      clearTimeout(timer);
      socket.destroy();
      raw.destroy();
      reject(error);
    };
    const timer = setTimeout(() => fail(timedOut(timeout)), timeout);
    socket.on("error", fail);
    socket.once("close", () => fail(Object.assign(new Error("closed"), { code: "ECONNRESET" })));
    socket.once(event, () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

const certificateCodes: Record<string, string> = {
  DEPTH_ZERO_SELF_SIGNED_CERT:
    "it is self-signed and not in the CA bundle; put it, or the CA that signed it, into spec.tls.caBundle",
  SELF_SIGNED_CERT_IN_CHAIN:
    "its CA is not in the CA bundle; put that CA's certificate into spec.tls.caBundle or the Secret's ca.crt",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    "its issuer is not in the CA bundle; put the CA's certificate into spec.tls.caBundle or the Secret's ca.crt",
  UNABLE_TO_GET_ISSUER_CERT:
    "its issuer is not in the CA bundle; put the CA's certificate into spec.tls.caBundle or the Secret's ca.crt",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    "its issuer is not in the CA bundle; put the CA's certificate into spec.tls.caBundle or the Secret's ca.crt",
  CERT_HAS_EXPIRED: "it, or its CA, has expired; renew it at the target",
  CERT_NOT_YET_VALID: "it is not valid yet; compare the clocks of the target and of this cluster",
  ERR_TLS_CERT_ALTNAME_INVALID: "it is not for that name; give one of its names in spec.tls.serverName",
  CERT_SIGNATURE_FAILURE: "its signature does not fit the CA bundle; a CA of the same name but another key is there",
};

function connectionVerdict(input: ProbeInput, error: unknown): Verdict {
  const code = errnoOf(error) ?? "";
  const { authority, host } = input.target;
  const name = input.tls.serverName ?? host;
  const known = certificateCodes[code];
  if (known !== undefined || /CERT|ISSUER|CRL|SELF_SIGNED|HOSTNAME/.test(code)) {
    return {
      status: "False",
      reason: "CertificateRejected",
      message: `The certificate of ${authority}, verified for ${name}, is rejected: ${known ?? `it cannot be verified (${code})`}.`,
    };
  }
  const message = error instanceof RefusedAddress ? error.message : reachText(code, error);
  return { status: "False", reason: "ConnectionFailed", message: `Cannot reach ${authority}: ${message}.` };
}

function reachText(code: string, error: unknown): string {
  if (code === "ENOTFOUND" || code === "EAI_NODATA") return "no such host; correct spec.address, or the DNS record";
  if (code === "ETIMEDOUT") return "no answer in time; see whether a firewall is between, and whether the target is up";
  if (code === "ECONNREFUSED")
    return "connection refused; nothing listens there, so see whether the port is right and the target is up";
  if (/SSL|TLS|EPROTO|WRONG_VERSION/.test(code))
    return `no TLS connection came about (${code}); see whether the port speaks TLS 1.2 or newer`;
  if (code.startsWith("HPE_")) return "what answers there is no HTTP/1.1 server; see whether the port is right";
  return `${describeErrno(error)?.text ?? (code === "" ? "the connection failed" : code)}; see whether the address is right and the network lets us through`;
}
