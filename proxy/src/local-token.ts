import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { Fault, Secret } from "@kube-connector/core";
import type { Authenticator, ConnectorName } from "./authenticate.ts";
import type { Authorizer } from "./authorize.ts";

/** Identity without a cluster: each connector has two tokens of its own, good as long as this object lives. */
export interface LocalAccess {
  authenticator: Authenticator;
  authorizer: Authorizer;
  /** The password of proxy-url. */
  tunnelToken: (connector: ConnectorName) => Secret;
  /** The token inside TLS. */
  requestToken: (connector: ConnectorName) => Secret;
}

type Purpose = "tunnel" | "request";

/**
 * What stands in for ServiceAccount tokens in standalone. A token names its connector and carries a MAC under a key that
 * is made here at random and never leaves; so it opens its own connector only, and a new process needs a new kubeconfig.
 */
export function createLocalAccess(): LocalAccess {
  const key = randomBytes(32);

  function mint(purpose: Purpose, connector: ConnectorName): Secret {
    const named = JSON.stringify([connector.namespace, connector.name]);
    const mac = createHmac("sha256", key)
      .update(JSON.stringify([purpose, named]))
      .digest("base64url");
    return new Secret(`local.${Buffer.from(named).toString("base64url")}.${mac}`);
  }

  const isFrom = (purpose: Purpose, connector: ConnectorName, token: Secret) =>
    sameText(token.reveal(), mint(purpose, connector).reveal());

  const authenticator: Authenticator = {
    async tunnel(token, connector) {
      if (isFrom("tunnel", connector, token)) return;
      throw new Fault("unauthenticated", "The tunnel token is of another run or connector; read the kubeconfig again");
    },
    async request(token) {
      const connector = nameIn(token);
      if (connector === undefined || !isFrom("request", connector, token)) {
        throw new Fault("unauthenticated", "The request token is of another run; read the kubeconfig again");
      }
      return {
        user: localUser(connector),
        uid: "",
        groups: [],
        extra: {},
        namespace: connector.namespace,
        pod: undefined,
      };
    },
    // These tokens do not expire while the process lives, and nothing but its end takes them back.
    async streaming() {},
  };
  const authorizer: Authorizer = {
    async may(caller, connector) {
      if (caller.user === localUser(connector)) return;
      const asked = `${connector.namespace}/${connector.name}`;
      throw new Fault("permission_denied", `${caller.user} may not use ${asked}; use the kubeconfig of ${asked}`);
    },
  };
  return {
    authenticator,
    authorizer,
    tunnelToken: (connector) => mint("tunnel", connector),
    requestToken: (connector) => mint("request", connector),
  };
}

function localUser(connector: ConnectorName): string {
  return `local:${connector.namespace}/${connector.name}`;
}

/** The connector that a token names; nothing is proved by that. */
function nameIn(token: Secret): ConnectorName | undefined {
  const named = /^local\.([A-Za-z0-9_-]{1,1000})\.[A-Za-z0-9_-]{43}$/.exec(token.reveal())?.[1];
  if (named === undefined) return undefined;
  try {
    const parts: unknown = JSON.parse(Buffer.from(named, "base64url").toString("utf8"));
    if (!Array.isArray(parts) || parts.length !== 2) return undefined;
    const [namespace, name] = parts as unknown[];
    return typeof namespace === "string" && typeof name === "string" ? { namespace, name } : undefined;
  } catch {
    return undefined;
  }
}

/** Whether two texts are equal, in a time that tells nothing about where they differ. */
function sameText(a: string, b: string): boolean {
  const [left, right] = [a, b].map((text) => createHmac("sha256", "equal").update(text).digest());
  return left !== undefined && right !== undefined && timingSafeEqual(left, right);
}
