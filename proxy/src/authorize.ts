import type { ResolvedConnector } from "@kube-connector/core";
import type { Caller } from "./authenticate.ts";

/** Says who may use a connector. */
export interface Authorizer {
  /** Ends when the caller may; else a Fault: permission_denied (403, naming the missing grant), unavailable (503). */
  may(caller: Caller, connector: ResolvedConnector): Promise<void>;
}
