import { isIP, isIPv6 } from "node:net";
import { Fault } from "./fault.ts";

/** Where a target's API server is: the parts of `spec.address`. */
export interface TargetAddress {
  /** Normalised: lower-case host, no default port, no trailing slash. */
  url: string;
  /** The host without brackets, a DNS name in lower case or an IP. */
  host: string;
  port: number;
  /** `host:port`, brackets round IPv6: what CONNECT and Host must name. */
  authority: string;
  /** The Host header for it: without the port when that is 443. */
  hostHeader: string;
  /** "" or a path such as `/kubernetes/global`, part of every upstream path. */
  prefix: string;
  isIp: boolean;
}

const dnsName = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;

/** Text → address, or a Fault whose message says what to change. */
export function parseAddress(text: string): TargetAddress {
  const wrong = (sentence: string) => new Fault("invalid_argument", `The address "${text.slice(0, 200)}" ${sentence}`);
  const match = /^https:\/\/(\[[^\]]*\]|[^/:?#@\\]*)(?::(\d{1,5}))?(\/[^?#]*)?$/i.exec(text);
  if (!/^https:\/\//i.test(text)) throw wrong("should begin with https://");
  if (/[?#]/.test(text)) throw wrong("should have no query and no fragment");
  if (/^https:\/\/[^/]*@/i.test(text)) throw wrong("should have no user or password; the token goes into the Secret");
  if (match === null) throw wrong("should be https://HOST[:PORT][/PREFIX]");
  const bracketed = (match[1] ?? "").startsWith("[");
  const host = (match[1] ?? "").replaceAll(/[[\]]/g, "").toLowerCase();
  if (bracketed ? !isIPv6(host) : isIP(host) === 6) throw wrong("should write an IPv6 address in square brackets");
  // 10.1 or 0x7f.1 are IP addresses to some resolvers and names to others, so they are neither here.
  if (!bracketed && isIP(host) === 0 && (!dnsName.test(host) || /(^|\.)(\d+|0x[0-9a-f]*)$/.test(host))) {
    throw wrong("should name a DNS name or an IP address as its host");
  }
  const port = Number(match[2] ?? 443);
  if (port < 1 || port > 65_535) throw wrong("should have a port from 1 to 65535");
  const prefix = (match[3] ?? "").replace(/\/$/, "");
  if (!/^(\/[A-Za-z0-9._~-]+)*$/.test(prefix) || /\/\.{1,2}(\/|$)/.test(prefix)) {
    throw wrong('should have a plain path prefix: segments of letters, digits and "._~-", without "." and ".."');
  }
  const shown = bracketed ? `[${host}]` : host;
  const hostHeader = port === 443 ? shown : `${shown}:${port}`;
  return {
    url: `https://${hostHeader}${prefix}`,
    host,
    port,
    authority: `${shown}:${port}`,
    hostHeader,
    prefix,
    isIp: isIP(host) !== 0,
  };
}
