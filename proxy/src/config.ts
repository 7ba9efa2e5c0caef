import { type LogLevel, logLevels, type Options, problems, readOptions, value } from "@kube-connector/core";
import type { Http2By } from "./proxy.ts";
import { defaultLimits } from "./timeouts.ts";

type Address = { host: string; port: number };

interface Settings {
  connectorsDir: string | undefined;
  secretsNamespace: string | undefined;
  secretName: string | undefined;
  secretsSelector: string | undefined;
  forwardAddress: Address;
  reverseAddress: Address;
  privateAddress: Address;
  issuer: string | undefined;
  kubeconfig: string | undefined;
  reviewsPerSecond: number;
  connections: number;
  connectionsPerAddress: number;
  audit: "off" | "stdout" | { file: string };
  drainDelay: number;
  drainGrace: number;
  http2: Http2By;
  logLevel: LogLevel;
}

/** The table of settings; the README shows it. */
export const options: Options<Settings> = {
  connectorsDir: {
    meaning: "Where resolved connectors come from: a directory with one folder per connector.",
    default: undefined,
    parse: value.text,
  },
  secretsNamespace: {
    meaning: "Where resolved connectors come from instead: the namespace of their Secrets.",
    default: undefined,
    parse: name("a namespace"),
  },
  secretName: {
    meaning: "The one Secret to serve (Dedicated placement).",
    default: undefined,
    parse: name("the name of a Secret"),
  },
  secretsSelector: {
    meaning: "The label selector of the Secrets to serve (Shared placement).",
    default: undefined,
    parse: value.text,
  },
  forwardAddress: {
    meaning: "Where the forward door listens, host:port. CONNECT is taken there.",
    default: "0.0.0.0:8080",
    parse: value.listen,
  },
  reverseAddress: {
    meaning: "Where the reverse door listens, host:port. TLS is taken there at once.",
    default: "0.0.0.0:8443",
    parse: value.listen,
  },
  privateAddress: {
    meaning: "Where /livez, /readyz and /metrics are served, host:port; to itself alone /debug/streams too.",
    default: "0.0.0.0:9090",
    parse: value.listen,
  },
  issuer: {
    meaning: "The issuer of service account tokens; without it, as the API server's discovery document says.",
    default: undefined,
    parse: value.text,
  },
  kubeconfig: {
    meaning: "How the API server is reached; without it, as a pod does.",
    default: undefined,
    parse: value.text,
  },
  reviewsPerSecond: {
    meaning:
      "TokenReviews and SubjectAccessReviews together, on average; twice as many in a burst, half for one namespace.",
    default: "500",
    parse: value.whole(1, 100_000),
  },
  connections: {
    meaning: "Client connections at most.",
    default: String(defaultLimits.connections),
    parse: value.whole(1, 1_000_000),
  },
  connectionsPerAddress: {
    meaning: "Client connections from one IP address at most.",
    default: String(defaultLimits.connectionsPerAddress),
    parse: value.whole(1, 1_000_000),
  },
  audit: {
    meaning: "Where one JSON line for each request and tunnel goes: stdout, the path of a file, or off.",
    default: "stdout",
    parse: auditTarget,
  },
  drainDelay: {
    meaning: "After SIGTERM, how long requests are still served while readiness says no, as a duration.",
    default: "10s",
    parse: value.duration,
  },
  drainGrace: {
    meaning: "After that, how long open streams may go on, as a duration.",
    default: "30s",
    parse: value.duration,
  },
  http2: {
    meaning:
      "HTTP/2 for clients of targets that speak it: by our own relay, by node:http2 as a second opinion, or not at all (off).",
    default: "own",
    parse: value.oneOf("own", "node", "off"),
  },
  logLevel: {
    meaning: `How much is logged: ${logLevels.join(", ")}.`,
    default: "info",
    parse: value.oneOf(...logLevels),
  },
};

/** Where resolved connectors come from. */
export type SourceConfig =
  | { directory: string }
  | { namespace: string; select: { name: string } | { labelSelector: string } };

export interface Config
  extends Omit<Settings, "connectorsDir" | "secretsNamespace" | "secretName" | "secretsSelector"> {
  source: SourceConfig;
}

/** Settings from flags, then the environment, then defaults. Every problem at once, as an invalid_argument Fault. */
export function readConfig(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Config {
  const { connectorsDir, secretsNamespace, secretName, secretsSelector, ...rest } = readOptions(options, argv, env);
  const wrong: string[] = [];
  if (env.NODE_TLS_REJECT_UNAUTHORIZED === "0") {
    wrong.push("NODE_TLS_REJECT_UNAUTHORIZED is 0, so no target would be verified; remove it");
  }
  const source = ((): SourceConfig | undefined => {
    if (connectorsDir !== undefined) {
      if (secretsNamespace === undefined && secretName === undefined && secretsSelector === undefined) {
        return { directory: connectorsDir };
      }
      wrong.push("--connectors-dir goes with none of --secrets-namespace, --secret-name and --secrets-selector");
      return undefined;
    }
    if (secretsNamespace === undefined) {
      wrong.push("give --connectors-dir, or --secrets-namespace with --secret-name or --secrets-selector");
      return undefined;
    }
    if ((secretName === undefined) === (secretsSelector === undefined)) {
      wrong.push("--secrets-namespace goes with exactly one of --secret-name and --secrets-selector");
      return undefined;
    }
    const select = secretName !== undefined ? { name: secretName } : { labelSelector: secretsSelector ?? "" };
    return { namespace: secretsNamespace, select };
  })();
  const fault = problems("The settings cannot be used", wrong);
  if (fault !== undefined || source === undefined) throw fault ?? new Error("no source");
  return { ...rest, source };
}

function auditTarget(text: string): Settings["audit"] {
  if (text === "off" || text === "stdout") return text;
  if (!text.startsWith("/")) throw new Error(`"${text}" should be stdout, off, or the path of a file from / on`);
  return { file: text };
}

function name(what: string): (text: string) => string {
  return (text) => {
    if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(text)) throw new Error(`"${text}" should be ${what}`);
    return text;
  };
}
