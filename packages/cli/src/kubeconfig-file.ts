import { delimiter, join } from "node:path";
import { Fault } from "@kube-connector/core";

/** The one kubeconfig file to use: the flag's, else KUBECONFIG's, else ~/.kube/config. */
export function kubeconfigFile(from: { flag: string | undefined; env: string | undefined; home: string }): string {
  if (from.flag !== undefined) return from.flag;
  const listed = (from.env ?? "").split(delimiter).filter((file) => file !== "");
  if (listed.length > 1) {
    throw new Fault("invalid_argument", "KUBECONFIG lists several files; name the one to use with --kubeconfig");
  }
  return listed[0] ?? join(from.home, ".kube", "config");
}
