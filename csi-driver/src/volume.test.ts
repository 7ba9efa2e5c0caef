// What a publish may say: every guard has its sentence, and nothing unknown passes.

import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { NodePublishVolumeRequestSchema } from "./gen/csi_pb.ts";
import { parsePlace, parseWanted } from "./volume.ts";

const id = `csi-${"0a".repeat(32)}`;
const root = "/var/lib/kubelet";
const uid = "9f5ba1c1-5fd5-4e0c-9d3d-0f6a3f1ce001";
const path = `${root}/pods/${uid}/volumes/kubernetes.io~csi/access/mount`;
const podInfo = {
  "csi.storage.k8s.io/pod.name": "web-0",
  "csi.storage.k8s.io/pod.namespace": "team-a",
  "csi.storage.k8s.io/pod.uid": uid,
  "csi.storage.k8s.io/serviceAccount.name": "default",
  "csi.storage.k8s.io/ephemeral": "true",
};

function request(
  attributes: Record<string, string>,
  more: { flags?: string[]; group?: string; readonly?: boolean } = {},
) {
  return create(NodePublishVolumeRequestSchema, {
    readonly: more.readonly ?? true,
    volumeCapability: {
      accessType: { case: "mount", value: { mountFlags: more.flags ?? [], volumeMountGroup: more.group ?? "" } },
    },
    volumeContext: { ...podInfo, ...attributes },
  });
}

describe("a place", () => {
  test("is read from the kubelet's path", () => {
    expect(parsePlace(id, path, root)).toEqual({
      volumeId: id,
      path,
      below: `/pods/${uid}/volumes/kubernetes.io~csi/access/mount`,
      podUid: uid,
    });
  });

  test.each([
    ["no volume id", "", path, "no volume id"],
    ["no path", id, "", "no path"],
    ["the id of a persistent volume", "pvc-1", path, "not that of an inline volume"],
    ["an id in capitals", id.toUpperCase(), path, "not that of an inline volume"],
    ["an id with a newline", `${id}\n`, path, "not that of an inline volume"],
    ["another root", id, path.replace("/var/lib", "/data"), "set --kubelet-root"],
    ["a path upwards", id, path.replace("access", ".."), "not of the form"],
    ["a path upwards in the uid", id, path.replace(uid, ".."), "not of the form"],
    ["a doubled slash", id, path.replace("/pods", "//pods"), "not of the form"],
    ["another plugin", id, path.replace("~csi", "~secret"), "not of the form"],
    ["more behind it", id, `${path}/x`, "not of the form"],
    ["a newline behind it", id, `${path}\n`, "not of the form"],
    ["a root that only begins the same", id, path.replace(root, `${root}2`), "not of the form"],
  ])("is refused: %s", (_, volumeId, target, sentence) => {
    expect(() => parsePlace(volumeId, target, root)).toThrow(sentence);
  });
});

describe("what is wanted", () => {
  test("has the pod's namespace and the kubeconfig by default", () => {
    expect(parseWanted(request({ "connector.name": "prod" }))).toEqual({
      pod: { uid, namespace: "team-a", name: "web-0", serviceAccount: "default" },
      connector: { namespace: "team-a", name: "prod" },
      configurations: ["kubeconfig"],
      group: undefined,
      context: undefined,
    });
  });

  test("takes all that a pod and its kubelet may say", () => {
    const attributes = {
      "connector.name": "prod",
      "connector.namespace": "team-b",
      "configuration.names": "kubeconfig-direct, kubeconfig",
      "csi.storage.k8s.io/something.new": "from a kubelet to come",
    };
    const context = 'context="system_u:object_r:container_file_t:s0:c1,c2"';
    const wanted = parseWanted(request(attributes, { flags: [context], group: "2000" }));
    expect(wanted).toMatchObject({
      connector: { namespace: "team-b", name: "prod" },
      configurations: ["kubeconfig", "kubeconfig-direct"],
      group: 2000,
      context,
    });
  });

  test.each([
    ["no Connector", {}, {}, "connector.name is missing"],
    ["a Connector that is a path", { "connector.name": "../x" }, {}, "no name of a Connector"],
    ["a namespace in capitals", { "connector.name": "a", "connector.namespace": "Team" }, {}, "no name of a namespace"],
    [
      "an unknown attribute",
      { "connector.name": "a", conector: "b" },
      {},
      '"conector" is not known; known are connector.name',
    ],
    [
      "an unknown configuration",
      { "connector.name": "a", "configuration.names": "helm" },
      {},
      'names "helm"; known are kubeconfig',
    ],
    ["an empty configuration", { "connector.name": "a", "configuration.names": "kubeconfig," }, {}, 'names ""'],
    ["a volume to write to", { "connector.name": "a" }, { readonly: false }, "set readOnly: true"],
    ["a mount flag", { "connector.name": "a" }, { flags: ["exec"] }, '"exec" is not supported'],
    ["a context with more options", { "connector.name": "a" }, { flags: ["context=a,exec"] }, "is not supported"],
    ["two contexts", { "connector.name": "a" }, { flags: ["context=a", "context=b"] }, "more than once"],
    ["a group that is a name", { "connector.name": "a" }, { group: "wheel" }, "no group id"],
    ["a group that is too large", { "connector.name": "a" }, { group: "4294967295" }, "no group id"],
    ["a persistent volume", { "connector.name": "a", "csi.storage.k8s.io/ephemeral": "false" }, {}, "should be inline"],
    ["no pod information", { "connector.name": "a", "csi.storage.k8s.io/pod.uid": "" }, {}, "podInfoOnMount: true"],
  ])("is refused: %s", (_, attributes, more, sentence) => {
    expect(() => parseWanted(request(attributes as Record<string, string>, more))).toThrow(sentence);
  });

  test("is refused: a block device", () => {
    const block = create(NodePublishVolumeRequestSchema, {
      readonly: true,
      volumeCapability: { accessType: { case: "block", value: {} } },
      volumeContext: { ...podInfo, "connector.name": "prod" },
    });
    expect(() => parseWanted(block)).toThrow("cannot be a block device");
  });
});
