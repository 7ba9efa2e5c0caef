import { lookup } from "node:dns/promises";
import type { OnReadOpts } from "node:net";
import tls from "node:tls";
import {
  alpnOf,
  type Clock,
  describeErrno,
  errnoOf,
  Fault,
  refusedAddress,
  type ResolvedConnector,
} from "@kube-connector/core";
import { Refusal } from "./answers.ts";
import { systemContexts, TargetContexts } from "./target-contexts.ts";
import type { TargetSession } from "./target-session.ts";

/** How the one target of a connector is reached. */
export interface DialPlan {
  host: string;
  port: number;
  /** `host:port`, for messages. */
  authority: string;
  /** The name, or IP, that the certificate must be for. */
  verifiedName: string;
  /** SNI; undefined when the name to verify is an IP. */
  sni: string | undefined;
  insecureSkipVerify: boolean;
  contexts: TargetContexts;
  /** Whether a certificate is for that name. */
  checkServerIdentity: NonNullable<tls.ConnectionOptions["checkServerIdentity"]>;
}

export interface DialOptions {
  clock: Clock;
  /** Milliseconds for the lookup and TCP, and again for TLS. */
  dialTimeout: number;
  tlsTimeout: number;
  allowLoopback: boolean;
  /** Aborted when nobody wants the connection any more. */
  signal: AbortSignal;
  /** What is offered by ALPN (`alpnOf`); http/1.1 unless told. */
  protocols?: DataView;
  /** Takes what the target sends, from the first byte on, in place of "data" events. */
  onread?: OnReadOpts;
  /** Of this very plan: what it holds was verified by the same CA and name. */
  session: TargetSession;
}

const http1 = alpnOf("http/1.1");
/** Addresses of one name that are tried. */
const addressLimit = 4;

/** The plan for a connector. Making it costs a TLS context, so it is kept per address and CA. */
export function planDial(connector: ResolvedConnector): DialPlan {
  const { target, tls: settings } = connector;
  const verifiedName = settings.serverName ?? target.host;
  const isIp = settings.serverName === undefined ? target.isIp : /^[\d.]+$|:/.test(verifiedName);
  let contexts: TargetContexts;
  try {
    contexts = settings.caBundle === undefined ? systemContexts() : new TargetContexts(settings.caBundle);
  } catch (error) {
    throw new Refusal(502, `The CA of connector ${connector.namespace}/${connector.name} cannot be used`, error);
  }
  return {
    host: target.host,
    port: target.port,
    authority: target.authority,
    verifiedName,
    sni: isIp ? undefined : verifiedName,
    insecureSkipVerify: settings.insecureSkipVerify,
    contexts,
    checkServerIdentity: (_host, certificate) => tls.checkServerIdentity(verifiedName, certificate),
  };
}

/**
 * A verified TLS connection to the target: its name is looked up, each address judged, and the address that was judged is
 * the one that is dialled. Refusal: 502, or 504 when time ran out.
 */
export async function dial(plan: DialPlan, options: DialOptions): Promise<tls.TLSSocket> {
  const addresses = await allowedAddresses(plan, options);
  let last: unknown;
  for (const address of addresses) {
    if (options.signal.aborted) break;
    try {
      return await connectTo(address, plan, options);
    } catch (error) {
      // Another address of the same name would show the same certificate.
      if (error instanceof TlsRefusal) throw error;
      last = error;
    }
  }
  throw unreachable(plan, last);
}

async function allowedAddresses(plan: DialPlan, options: DialOptions): Promise<string[]> {
  let found: { address: string }[];
  try {
    found = await within(lookup(plan.host, { all: true, verbatim: true }), options.dialTimeout, options.clock);
  } catch (error) {
    throw unreachable(plan, error);
  }
  const allowed = found
    .map(({ address }) => address)
    .filter((ip) => refusedAddress(ip, { loopback: options.allowLoopback }) === undefined)
    .slice(0, addressLimit);
  if (allowed.length > 0) return allowed;
  throw new Refusal(
    502,
    `The target cluster's host ${plan.host} is a loopback, link-local, metadata or multicast address; a connector may not reach those`,
  );
}

/** The other side is there, and it is not whom we must speak to. Trying again would change nothing. */
export class TlsRefusal extends Refusal {}

function connectTo(address: string, plan: DialPlan, options: DialOptions): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const { session } = options;
    const began = options.clock.monotonic();
    const offered = session.current;
    const how: tls.ConnectionOptions & { allowHalfOpen: boolean; onread?: OnReadOpts } = {
      host: address,
      port: plan.port,
      ...(plan.sni === undefined ? {} : { servername: plan.sni }),
      secureContext: offered?.isClassic === true ? plan.contexts.classicKey : plan.contexts.bothKeys,
      rejectUnauthorized: !plan.insecureSkipVerify,
      checkServerIdentity: plan.checkServerIdentity,
      ALPNProtocols: options.protocols ?? http1,
      allowHalfOpen: true,
      ...(options.onread === undefined ? {} : { onread: options.onread }),
      ...(offered === undefined ? {} : { session: offered.session }),
    };
    const socket = tls.connect(how);
    let connected = false;
    let settled = false;
    const settle = (then: () => void) => {
      if (settled) return;
      settled = true;
      cancelTimer();
      options.signal.removeEventListener("abort", onAbort);
      // A socket lives for long, and must not hold all this until then.
      socket
        .on("error", ignore)
        .off("error", fail)
        .off("close", onClose)
        .off("connect", onConnect)
        .off("secureConnect", onSecure);
      then();
    };
    const fail = (error: unknown) =>
      settle(() => {
        if (!options.signal.aborted) session.forget();
        socket.destroy();
        reject(connected && isTlsProblem(error) ? tlsRefusal(plan, error) : error);
      });
    const onTime = () => fail(timedOut());
    const onAbort = () => fail(new Error("the client is gone"));
    let cancelTimer = options.clock.after(options.dialTimeout, onTime);
    options.signal.addEventListener("abort", onAbort, { once: true });
    const onClose = () => settle(() => reject(new Fault("unavailable", "connection closed")));
    const onConnect = () => {
      connected = true;
      cancelTimer();
      cancelTimer = options.clock.after(options.tlsTimeout, onTime);
    };
    const onSecure = () =>
      settle(() => {
        session.verified(socket, offered, began);
        socket.setNoDelay(true);
        // With Node: first probe after 30 s, then ten of them, 1 s apart; a dead peer shows in 40 s.
        socket.setKeepAlive(true, 30_000);
        resolve(socket);
      });
    socket.on("error", fail).on("close", onClose).on("connect", onConnect).on("secureConnect", onSecure);
  });
}

/** What goes wrong with a socket that is of no more use, or is in another's hands. */
const ignore = () => undefined;

function timedOut(): Fault {
  return new Fault("deadline_exceeded", "timed out");
}

function within<T>(work: Promise<T>, milliseconds: number, clock: Clock): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(milliseconds, () => reject(timedOut()));
    work.then(resolve, reject).finally(cancel);
  });
}

/** An error of the TLS layer or of verification, and not of the network. */
function isTlsProblem(error: unknown): boolean {
  return !(error instanceof Fault) && describeErrno(error) === undefined;
}

function tlsRefusal(plan: DialPlan, cause: unknown): TlsRefusal {
  // OpenSSL's own errors come as ERR_SSL_<reason>; all others are about the certificate.
  const ssl = /^ERR_SSL_(.+)$/.exec(errnoOf(cause) ?? "")?.[1];
  if (ssl !== undefined) {
    const why = ssl.toLowerCase().replaceAll("_", " ");
    return new TlsRefusal(502, `The target at ${plan.authority} does not speak TLS as it should (${why})`, cause);
  }
  // Node adds advice for whoever runs Node ("...; if the root CA is installed locally, try ...").
  const why =
    cause instanceof Error ? cause.message.replace(/; if the root CA .*$/s, "").slice(0, 300) : "no reason given";
  return new TlsRefusal(
    502,
    `The certificate of the target cluster at ${plan.authority} is not accepted (${why}); check the connector's CA and serverName`,
    cause,
  );
}

function unreachable(plan: DialPlan, cause: unknown): Refusal {
  const known = cause instanceof Fault ? { code: cause.code, text: cause.message } : describeErrno(cause);
  const text = known?.text ?? "the connection failed";
  const http = known?.code === "deadline_exceeded" ? 504 : 502;
  return new Refusal(http, `Cannot reach the target cluster at ${plan.authority}: ${text}`, cause);
}
