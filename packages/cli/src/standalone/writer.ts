import { renderKubeconfig, type Secret, tunnelUrl } from "@kube-connector/core";
import type { LocalAccess } from "@kube-connector/proxy";
import type { Doors } from "./doors.ts";
import type { KubeconfigFolder } from "./kubeconfigs.ts";
import type { Resolutions, Resolved } from "./resolver.ts";

/** Keeps the kubeconfigs in step with the connectors. */
export interface Writer {
  /** Writes what is new or different, removes what is gone. */
  write(reading: Resolutions): Promise<void>;
  pathsOf(key: string): { kubeconfig: string; direct: string };
}

export function createWriter(parts: { folder: KubeconfigFolder; access: LocalAccess; doors: Doors }): Writer {
  const { folder, access, doors } = parts;
  const written = new Map<string, Secret>();

  function textsOf(key: string, { connector, ca }: Resolved): [string, Secret][] {
    const { kubeconfig, direct } = fileNames(key);
    const token = access.requestToken(connector);
    const proxyUrl = tunnelUrl(`http://127.0.0.1:${doors.forwardPort}`, connector, access.tunnelToken(connector));
    const server = `https://localhost:${doors.reversePort}`;
    const [tlsServerName = ""] = connector.serviceNames;
    return [
      [kubeconfig, renderKubeconfig({ server: connector.target.url, proxyUrl, ca, token })],
      [direct, renderKubeconfig({ server, tlsServerName, ca, token })],
    ];
  }

  return {
    async write(reading) {
      const wanted = new Map([...reading.connectors].flatMap(([key, resolved]) => textsOf(key, resolved)));
      await folder.checkFree([...wanted.keys()]);
      for (const [name, text] of wanted) {
        if (written.get(name)?.equals(text) === true) continue;
        await folder.write(name, text);
        written.set(name, text);
      }
      for (const name of written.keys()) {
        if (wanted.has(name)) continue;
        await folder.remove(name);
        written.delete(name);
      }
    },
    pathsOf(key) {
      const { kubeconfig, direct } = fileNames(key);
      return { kubeconfig: folder.pathOf(kubeconfig), direct: folder.pathOf(direct) };
    },
  };
}

/** `team-a/prod` → `team-a.prod.kubeconfig`, and the one for clients that ignore proxy-url. */
const fileNames = (key: string) => ({
  kubeconfig: `${key.replace("/", ".")}.kubeconfig`,
  direct: `${key.replace("/", ".")}.kubeconfig-direct`,
});
