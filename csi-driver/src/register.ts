import { Fault, type Log, type Running } from "@kube-connector/core";
import { Registration } from "./gen/registration_pb.ts";
import { served, startRpcServer } from "./rpc.ts";

/** The driver's own registration with the kubelet, in place of the node-driver-registrar sidecar. */
export interface RegistrationRunning extends Running {
  isRegistered(): boolean;
}

/**
 * Serves the kubelet's Registration at a socket in its plugins_registry, where it finds it by itself. `done` rejects
 * when the kubelet refuses the driver.
 */
export async function startRegistration(options: {
  socket: string;
  driverName: string;
  /** The path of csi.sock, as the kubelet sees it. */
  endpoint: string;
  log: Log;
}): Promise<RegistrationRunning> {
  const { log, driverName, endpoint } = options;
  let registered = false;
  let refuse: (fault: Fault) => void = () => undefined;
  const refused = new Promise<never>((_, reject) => {
    refuse = reject;
  });
  const server = await startRpcServer({
    socket: options.socket,
    services: [
      served(Registration, {
        async getInfo() {
          return { type: "CSIPlugin", name: driverName, endpoint, supportedVersions: ["1.0.0"] };
        },
        async notifyRegistrationStatus(status) {
          registered = status.pluginRegistered;
          if (registered) {
            log.info("The kubelet has registered the driver");
          } else {
            const why = status.error.slice(0, 500);
            log.error("The kubelet refused the driver", { reason: why });
            refuse(new Fault("unavailable", `The kubelet refused the driver: ${why}`));
          }
          return {};
        },
      }),
    ],
  });
  const done = Promise.race([server.done, refused]);
  // Whoever started us looks at it soon; until then a refusal is no unhandled one.
  done.catch(() => undefined);
  return {
    isRegistered: () => registered,
    done,
    stop: () => server.stop(),
  };
}
