import { X509Certificate } from "node:crypto";
import {
  bearerTokenSecretType,
  type Connector,
  type ConnectorClass,
  type DescribedConnector,
  Fault,
  isTokenText,
  mergeLimits,
  parseAddress,
  type Secret,
  Secret as SecretText,
  serviceAccountSecretType,
  serviceName,
  type TargetAddress,
} from "@kube-connector/core";

// Class, Secret and spec → what a proxy is given. Pure: the controller and standalone judge alike.

/** How one condition is judged. */
export interface Verdict {
  status: "True" | "False" | "Unknown";
  reason: string;
  /** A sentence for an admin; never with a token. */
  message: string;
}

/** A stored Secret as it was read just now. */
export interface StoredSecret {
  type: string;
  data: Readonly<Record<string, Secret>>;
}

export interface ResolveInput {
  connector: Connector;
  /** undefined: there is no class of that name. */
  class: ConnectorClass | undefined;
  /** undefined: there is no Secret of that name. */
  secret: StoredSecret | undefined;
}

export interface Resolution {
  classReady: Verdict;
  secretReady: Verdict;
  /** Why the address cannot be used; then nothing else of the target is known. */
  addressProblem: string | undefined;
  target: TargetAddress | undefined;
  /** What the proxy is told; undefined when the address cannot be used. Its `unavailable` is set without a token. */
  described: DescribedConnector | undefined;
  token: Secret | undefined;
  /** When the token says that it expires, milliseconds since 1970; undefined when it does not say. */
  expiresAt: number | undefined;
}

const isTrue = (message: string, reason = "Ready"): Verdict => ({ status: "True", reason, message });
const isFalse = (reason: string, message: string): Verdict => ({ status: "False", reason, message });

/** What cannot be judged before something else is mended. */
export const notChecked = (message: string): Verdict => ({ status: "Unknown", reason: "NotChecked", message });

/** The DNS names of a connector's reverse door, the longest first. */
export function serviceNames(namespace: string, name: string, clusterDomain: string): string[] {
  const short = `${serviceName(name)}.${namespace}.svc`;
  return [`${short}.${clusterDomain}`, short];
}

/** The types of Secret that a Connector's credential may have; without a class the two well-known ones. */
export function acceptedSecretTypes(connector: Connector, connectorClass: ConnectorClass | undefined): string[] {
  const listed = connectorClass?.spec.auth.filter((one) => one.name === connector.spec.auth.name) ?? [];
  const types = connectorClass === undefined ? [bearerTokenSecretType] : listed.map((one) => one.secretType);
  return [...new Set([...types, serviceAccountSecretType])];
}

export function resolveConnector(input: ResolveInput, options: { clusterDomain: string }): Resolution {
  const { connector } = input;
  const { spec } = connector;
  const namespace = connector.metadata.namespace ?? "default";
  const classReady =
    input.class === undefined
      ? isFalse(
          "ConnectorClassNotFound",
          `There is no ConnectorClass "${spec.connectorClassName}"; install it, or create the Connector anew with a class that kubectl get connectorclasses lists.`,
        )
      : isTrue(`The class "${spec.connectorClassName}" is known.`);
  let target: TargetAddress | undefined;
  let addressProblem: string | undefined;
  try {
    target = parseAddress(spec.address);
  } catch (error) {
    addressProblem = Fault.from(error, "The address cannot be used").message;
  }
  const secret = judgeSecret(input, target);
  const skip = spec.tls?.insecureSkipVerify === true;
  const described: DescribedConnector | undefined =
    target === undefined
      ? undefined
      : {
          namespace,
          name: connector.metadata.name,
          uid: connector.metadata.uid ?? "",
          address: target.url,
          tls: {
            ...(secret.ca === undefined ? {} : { caBundle: secret.ca }),
            ...(spec.tls?.serverName === undefined ? {} : { serverName: spec.tls.serverName }),
            insecureSkipVerify: skip,
          },
          access: { sameNamespace: spec.access?.sameNamespace ?? "Allow" },
          ...(spec.policy === undefined ? {} : { policy: spec.policy }),
          limits: mergeLimits(input.class?.spec.limits, spec.limits),
          serviceNames: serviceNames(namespace, connector.metadata.name, options.clusterDomain),
          ...(secret.token === undefined ? { unavailable: secret.verdict.message } : {}),
        };
  return {
    classReady,
    secretReady:
      input.class === undefined
        ? notChecked("Not judged: which types of Secret are accepted is said by the missing class.")
        : secret.verdict,
    addressProblem,
    target,
    described,
    token: secret.token,
    expiresAt: secret.token === undefined ? undefined : tokenExpiry(secret.token),
  };
}

interface JudgedSecret {
  verdict: Verdict;
  token?: Secret;
  ca?: string;
}

function judgeSecret(input: ResolveInput, target: TargetAddress | undefined): JudgedSecret {
  const { connector, secret } = input;
  const { name } = connector.spec.auth.secretRef;
  const namespace = connector.metadata.namespace ?? "default";
  const types = acceptedSecretTypes(connector, input.class);
  const no = (reason: string, message: string): JudgedSecret => ({ verdict: isFalse(reason, message) });
  if (secret === undefined) {
    return no(
      "SecretNotFound",
      `There is no Secret "${name}" in the namespace "${namespace}"; create it with type ${types[0] ?? bearerTokenSecretType} and the entry token, or correct spec.auth.secretRef.name.`,
    );
  }
  if (!types.includes(secret.type)) {
    return no(
      "WrongSecretType",
      `The Secret "${name}" has the type "${secret.type.slice(0, 100)}", accepted are ${types.join(" and ")}; a type cannot be changed, so delete the Secret and create it anew.`,
    );
  }
  const text = secret.data.token?.reveal().replace(/[\r\n]+$/, "") ?? "";
  if (text === "") {
    const hint =
      secret.type === serviceAccountSecretType
        ? "its ServiceAccount may be missing"
        : "put the target's bearer token into it";
    return no("TokenMissing", `The Secret "${name}" has no entry "token", or an empty one; ${hint}.`);
  }
  if (!isTokenText(text)) {
    return no(
      "TokenMalformed",
      `The entry "token" of the Secret "${name}" is no bearer token: it should be one line of visible ASCII characters without spaces, at most 64 KiB, and not base64-encoded twice.`,
    );
  }
  const ca = caBundleOf(connector, secret);
  if (ca.problem !== undefined) return no("InvalidCA", ca.problem);
  const allowed = secret.data.addresses?.reveal();
  if (allowed !== undefined && !addressAllowed(allowed, connector.spec.address, target)) {
    return no(
      "AddressNotAllowed",
      `The address "${connector.spec.address.slice(0, 200)}" is not in the entry "addresses" of the Secret "${name}", which lists where its token may be sent; add it there or correct spec.address.`,
    );
  }
  return {
    verdict: isTrue(`The Secret "${name}" holds a token.`),
    token: new SecretText(text),
    ...(ca.pem === undefined ? {} : { ca: ca.pem }),
  };
}

function addressAllowed(list: string, address: string, target: TargetAddress | undefined): boolean {
  return list
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .some((line) => {
      if (line === address) return true;
      try {
        return parseAddress(line).url === target?.url;
      } catch {
        return false;
      }
    });
}

function caBundleOf(connector: Connector, secret: StoredSecret): { pem?: string; problem?: string } {
  const inline = connector.spec.tls?.caBundle;
  const stored = secret.data["ca.crt"]?.reveal();
  if (inline === undefined && (stored === undefined || stored.trim() === "")) return {};
  const where =
    inline === undefined
      ? `The entry "ca.crt" of the Secret "${connector.spec.auth.secretRef.name}"`
      : "The Connector's spec.tls.caBundle";
  const text = inline === undefined ? (stored ?? "") : Buffer.from(inline, "base64").toString("utf8");
  if (text.includes("PRIVATE KEY")) {
    return {
      problem: `${where} holds a private key; it should hold only certificates. Replace that key: it was readable.`,
    };
  }
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) {
    const encoded = inline === undefined ? "" : ", encoded once in base64";
    return { problem: `${where} holds no certificate; it should be PEM (-----BEGIN CERTIFICATE-----)${encoded}.` };
  }
  for (const [index, block] of blocks.entries()) {
    try {
      // oxlint-disable-next-line no-new -- the constructor is the check
      new X509Certificate(block);
    } catch {
      return {
        problem: `${where}: certificate ${index + 1} of ${blocks.length} cannot be read; copy the PEM file again.`,
      };
    }
  }
  return { pem: `${blocks.join("\n")}\n` };
}

/** The `exp` of a JWT in milliseconds; undefined for any other token. The target decides, this is only a forecast. */
export function tokenExpiry(token: Secret): number | undefined {
  const parts = token.reveal().split(".");
  if (parts.length !== 3 || !parts.every((part) => /^[A-Za-z0-9_-]+$/.test(part))) return undefined;
  try {
    const claims = JSON.parse(Buffer.from(parts[1] ?? "", "base64url").toString("utf8")) as { exp?: unknown } | null;
    const exp = claims?.exp;
    return typeof exp === "number" && Number.isFinite(exp) && exp > 0 && exp < 8.64e12 ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}
