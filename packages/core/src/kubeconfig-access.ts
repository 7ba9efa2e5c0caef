import { readFile } from "node:fs/promises";
import type { ApiAccess } from "./api-server.ts";
import { Fault } from "./fault.ts";
import { Secret } from "./secret.ts";

/**
 * The current context of a person's kubeconfig file as access for our own transport. client-node reads it (exec plugins,
 * OIDC, client certificates) and is imported only here and only now: 0.4 s and 83 MB.
 */
export async function readKubeconfig(file: string, context?: string): Promise<ApiAccess> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  try {
    config.loadFromFile(file);
    if (context !== undefined) config.setCurrentContext(context);
  } catch (error) {
    throw new Fault("invalid_argument", `Cannot read the kubeconfig ${file}; is it there, and YAML?`, error);
  }
  const cluster = config.getCurrentCluster();
  if (!cluster) {
    throw new Fault(
      "invalid_argument",
      `The kubeconfig ${file} has no current context; name one with kubectl config use-context`,
    );
  }
  const text = async (data: string | undefined, path: string | undefined): Promise<string | undefined> => {
    if (data !== undefined && data !== "") return Buffer.from(data, "base64").toString("utf8");
    return path === undefined ? undefined : await readFile(path, "utf8");
  };
  const user = config.getCurrentUser();
  const ca = await text(cluster.caData, cluster.caFile);
  const certificate = await text(user?.certData, user?.certFile);
  const key = await text(user?.keyData, user?.keyFile);
  return {
    url: cluster.server,
    ...(ca === undefined ? {} : { ca }),
    ...(cluster.tlsServerName === undefined ? {} : { serverName: cluster.tlsServerName }),
    insecureSkipVerify: cluster.skipTLSVerify,
    ...(certificate === undefined || key === undefined ? {} : { certificate: { certificate, key: new Secret(key) } }),
    token: async () => {
      const headers: Record<string, string> = {};
      await config.applyToHTTPSOptions({ headers });
      const authorization = headers.Authorization ?? headers.authorization;
      return authorization?.startsWith("Bearer ") ? new Secret(authorization.slice(7)) : undefined;
    },
  };
}
