import { Fault, files, renderKubeconfig, type Secret, Secret as SecretText, tunnelUrl } from "@kube-connector/core";
import type { UsableConnector } from "./connectors.ts";
import type { Tokens } from "./tokens.ts";
import type { Wanted } from "./volume.ts";

/** Half of what the volume can hold, since old and new files are there together for a moment. Bytes. */
const most = 256 * 1024;

/** The files of a volume: the kubeconfigs that were asked for, the request token and the connector's CA. */
export function renderContent(connector: UsableConnector, wanted: Wanted, tokens: Tokens): Map<string, Secret> {
  const content = new Map<string, Secret>();
  const shared = { ca: connector.ca, token: tokens.request, tokenFile: files.token };
  for (const configuration of wanted.configurations) {
    if (configuration === "kubeconfig") {
      const proxyUrl = tunnelUrl(connector.httpUrl, wanted.connector, tokens.tunnel);
      content.set(files.kubeconfig, renderKubeconfig({ ...shared, server: connector.server, proxyUrl }));
    } else {
      content.set(files.kubeconfigDirect, renderKubeconfig({ ...shared, server: connector.httpsUrl }));
    }
  }
  content.set(files.token, tokens.request);
  content.set(files.ca, new SecretText(connector.ca));
  let size = 0;
  for (const text of content.values()) size += Buffer.byteLength(text.reveal());
  if (size > most) {
    throw new Fault(
      "internal",
      `The volume's files would have ${size} bytes, more than ${most}; is the CA bundle that large?`,
    );
  }
  return content;
}
