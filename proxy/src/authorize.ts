import type { ResolvedConnector } from "@kube-connector/core";
import type { Caller } from "./authenticate.ts";

/** Says who may use a connector. */
export interface Authorizer {
  /**
   * Undefined when it is known that the caller may; else a promise that ends when it may, or with a Fault:
   * permission_denied (403, naming the missing grant), unavailable (503). It never throws.
   */
  may(caller: Caller, connector: ResolvedConnector): Promise<void> | undefined;
}
