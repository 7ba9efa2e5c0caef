import { Identity } from "./gen/csi_pb.ts";
import { type Served, served } from "./rpc.ts";

/** The Identity service: who we are. Probe is false only for what a restart heals, never for an absent API server. */
export function createIdentity(options: { name: string; version: string }): Served {
  return served(Identity, {
    async getPluginInfo() {
      return { name: options.name, vendorVersion: options.version };
    },
    async getPluginCapabilities() {
      return {};
    },
    async probe() {
      return { ready: true };
    },
  });
}
