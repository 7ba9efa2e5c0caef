import { createHash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Client, credentials, Server, ServerCredentials, type ServiceError } from "@grpc/grpc-js";
import { Node } from "@kube-connector/csi-driver";

// csi-sanity knows drivers with a controller; ours has none, and takes only what a kubelet sends for an inline volume.
// The shim stands between them: it answers for a controller that makes up volume ids, and turns each Node call into the
// kubelet's. The driver itself has no test mode.

/** What the shim puts in place of what csi-sanity sends. */
export interface ShimOptions {
  /** Where csi-sanity connects. */
  socket: string;
  driver: string;
  /** What a kubelet would send for the pod whose folder csi-sanity uses. */
  volumeContext: Record<string, string>;
}

type Answer = (request: Buffer) => Promise<Buffer>;

export async function startCsiShim(options: ShimOptions): Promise<{ stop(): void }> {
  const server = new Server();
  const driver = new Client(`unix:${options.driver}`, credentials.createInsecure());
  const pass = (path: string, change: Answer = async (request) => request): Answer => {
    return async (request) => {
      const changed = await change(request);
      return await new Promise((resolve, reject) => {
        driver.makeUnaryRequest(path, asIs, asIs, changed, (error, value) =>
          error === null && value !== undefined ? resolve(value) : reject(error ?? new Error("no answer")),
        );
      });
    };
  };
  // Both are capabilities { 1: { 1: 1 } }: CONTROLLER_SERVICE of the plugin, CREATE_DELETE_VOLUME of the controller.
  const oneCapability = async () => Buffer.from("0a040a020801", "hex");
  const identity = "/csi.v1.Identity";
  const controller = "/csi.v1.Controller";
  const answers: Record<string, Answer> = {
    [`${identity}/GetPluginInfo`]: pass(`${identity}/GetPluginInfo`),
    [`${identity}/GetPluginCapabilities`]: oneCapability,
    [`${identity}/Probe`]: pass(`${identity}/Probe`),
    [`${controller}/ControllerGetCapabilities`]: oneCapability,
    [`${controller}/CreateVolume`]: createVolume,
    [`${controller}/DeleteVolume`]: async () => Buffer.alloc(0),
  };
  for (const method of Node.methods) {
    const path = `/${Node.typeName}/${method.name}`;
    answers[path] = pass(path, async (bytes) => asKubelet(method, bytes, options.volumeContext));
  }
  const definition = Object.fromEntries(Object.keys(answers).map((path) => [path, { path, ...unary }]));
  server.addService(
    definition,
    Object.fromEntries(
      Object.entries(answers).map(([path, answer]) => [
        path,
        (call: { request: Buffer }, reply: (error: Partial<ServiceError> | null, value?: Buffer) => void) => {
          answer(call.request).then(
            (value) => reply(null, value),
            (error: ServiceError) => reply({ code: error.code, details: error.details }),
          );
        },
      ]),
    ),
  );
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${options.socket}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  return {
    stop() {
      server.forceShutdown();
      driver.close();
    },
  };
}

const asIs = (bytes: Buffer) => bytes;
const unary = {
  requestStream: false,
  responseStream: false,
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
};

/** CreateVolumeRequest { 1: name } → CreateVolumeResponse { 1: { 2: volume_id } } with an id as the kubelet makes them. */
async function createVolume(request: Buffer): Promise<Buffer> {
  const reader = new BinaryReader(request);
  let name = "";
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) name = reader.string();
    else reader.skip(type);
  }
  const id = `csi-${createHash("sha256").update(name).digest("hex")}`;
  const volume = new BinaryWriter().tag(2, WireType.LengthDelimited).string(id).finish();
  return Buffer.from(new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(volume).finish());
}

/** A Node request as a kubelet would have made it. What is missing stays missing: csi-sanity tests that too. */
function asKubelet(
  method: (typeof Node.methods)[number],
  bytes: Buffer,
  volumeContext: Record<string, string>,
): Buffer {
  const { nodePublishVolume, nodeUnpublishVolume, nodeGetVolumeStats } = Node.method;
  const mountPath = (path: string) => path.replace(/\/target$/, "/mount");
  if (method === nodePublishVolume) {
    const request = fromBinary(nodePublishVolume.input, bytes);
    const targetPath = mountPath(request.targetPath);
    return encode(
      nodePublishVolume.input,
      create(nodePublishVolume.input, { ...request, targetPath, readonly: true, volumeContext }),
    );
  }
  if (method === nodeUnpublishVolume) {
    const request = fromBinary(nodeUnpublishVolume.input, bytes);
    request.targetPath = mountPath(request.targetPath);
    return encode(nodeUnpublishVolume.input, request);
  }
  if (method === nodeGetVolumeStats) {
    const request = fromBinary(nodeGetVolumeStats.input, bytes);
    request.volumePath = mountPath(request.volumePath);
    return encode(nodeGetVolumeStats.input, request);
  }
  return bytes;
}

const encode = (...args: Parameters<typeof toBinary>): Buffer => Buffer.from(toBinary(...args));
