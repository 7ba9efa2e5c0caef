// The debug dump shows what a request asks for, and masks what may be a secret.

import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { dumpMessage } from "./dump.ts";
import { NodePublishVolumeRequestSchema } from "./gen/csi_pb.ts";

test("secret fields and foreign map values are masked", () => {
  const request = create(NodePublishVolumeRequestSchema, {
    volumeId: "csi-1",
    readonly: true,
    secrets: { a: "mark" },
    volumeContext: { "connector.name": "prod", "csi.storage.k8s.io/serviceAccount.tokens": "mark" },
    volumeCapability: { accessType: { case: "mount", value: { mountFlags: ["context=x"] } } },
  });
  expect(JSON.parse(dumpMessage(NodePublishVolumeRequestSchema, request))).toEqual({
    volume_id: "csi-1",
    readonly: true,
    secrets: "***",
    volume_context: { "connector.name": "prod", "csi.storage.k8s.io/serviceAccount.tokens": "***" },
    volume_capability: { mount: { mount_flags: ["context=x"] } },
  });
});
