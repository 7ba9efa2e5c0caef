import { createHmac } from "node:crypto";

// Stored tokens that say whose they are and how old: a target knows each by a key that it shares with whoever writes them.

/** How every one of them begins; in no log. */
export const tokenMark = "soak-stored-token";

export function tokenText(key: string, connector: string, version: number): string {
  const told = `${tokenMark}.${connector.replace("/", "_")}.${version}`;
  return `${told}.${createHmac("sha256", key).update(told).digest("base64url")}`;
}

/** The version of a connector's token; undefined when it is none of that connector. */
export function tokenVersion(key: string, connector: string, text: string): number | undefined {
  const version = Number(text.split(".")[2]);
  return text === tokenText(key, connector, version) ? version : undefined;
}
