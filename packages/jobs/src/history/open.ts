import type { Clock, Log, Secret } from "@kube-connector/core";
import { Fault } from "@kube-connector/core";
import { openSqliteStore } from "./sqlite.ts";
import type { Store } from "./store.ts";

/** The history at a place: `postgres://...`, which may hold a password, or the path of a file. */
export async function openStore(where: Secret, options: { log: Log; clock?: Clock }): Promise<Store> {
  const text = where.reveal();
  if (/^postgres(ql)?:\/\//.test(text)) {
    // Its client is imported by those who use it only.
    const { openPostgresStore } = await import("./postgres.ts");
    return await openPostgresStore({ url: where, log: options.log });
  }
  // Something like mysql://user:password@host would be the name of a file, with the password in it.
  if (text === "" || /^[a-z][a-z0-9+.-]*:/i.test(text)) {
    throw new Fault("invalid_argument", "The history must be the path of a file, or begin with postgres://");
  }
  return await openSqliteStore({ file: text, ...options });
}
