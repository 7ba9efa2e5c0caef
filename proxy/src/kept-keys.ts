import type { ResolvedConnector } from "@kube-connector/core";
import type { Caller } from "./authenticate.ts";

/**
 * What was made of a caller and a connector, made once for each two. Neither object ever changes: another review, or another
 * version, is another object, and with the old one goes what was made of it.
 */
export function keptKeys<K>(make: (caller: Caller, connector: ResolvedConnector) => K): {
  of(caller: Caller, connector: ResolvedConnector): K;
} {
  const kept = new WeakMap<Caller, WeakMap<ResolvedConnector, K>>();
  return {
    of(caller, connector) {
      let ofCaller = kept.get(caller);
      if (ofCaller === undefined) {
        ofCaller = new WeakMap();
        kept.set(caller, ofCaller);
      }
      let key = ofCaller.get(connector);
      if (key === undefined) {
        key = make(caller, connector);
        ofCaller.set(connector, key);
      }
      return key;
    },
  };
}
