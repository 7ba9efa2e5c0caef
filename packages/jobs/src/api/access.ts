import { createHash, timingSafeEqual } from "node:crypto";
import { Fault, rereadSecret, type Secret } from "@kube-connector/core";

/** Milliseconds for which the token's file is not read again. */
const tokenAge = 1000;

/** Whether a request shows the token that the file holds now. Throws an `unauthenticated` Fault that says what is missing. */
export function createTokenCheck(file: string): (authorization: string | undefined) => Promise<void> {
  const read = rereadSecret(file, tokenAge);
  return async (authorization) => {
    const wanted = await read();
    if (wanted.reveal() === "") throw new Fault("unavailable", `The token file of this server is empty`);
    const shown = /^Bearer ([^\s,]+)$/i.exec(authorization ?? "")?.[1];
    if (shown === undefined) throw new Fault("unauthenticated", "Send the server's token as Authorization: Bearer");
    if (!isSame(shown, wanted)) throw new Fault("unauthenticated", "That is not this server's token");
  };
}

/** By digests of equal length, so that the time says nothing about the token. */
function isSame(shown: string, wanted: Secret): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(shown), digest(wanted.reveal()));
}

/** Whether only this machine can reach that host. */
export function isLoopbackHost(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}
