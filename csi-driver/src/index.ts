export { type Config, options, readConfig } from "./config.ts";
export { type DriverOptions, type DriverRunning, startDriver } from "./driver.ts";
export { Identity, Node } from "./gen/csi_pb.ts";
export { Registration } from "./gen/registration_pb.ts";
export { createRpcClient, type RpcClient } from "./rpc.ts";
