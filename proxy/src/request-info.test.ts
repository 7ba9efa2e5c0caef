import { expect, test } from "vitest";
import { Refusal } from "./answers.ts";
import { requestInfo } from "./request-info.ts";

// A request is read as kube-apiserver reads it. test/integration/policy-request-info.test.ts asks a real one about thousands of
// requests; these are the forms that matter, with the answer written down.

/** verb group/version resource/subresource namespace name, with - for nothing; or verb and path. */
function read(request: string): string {
  const [method = "", target = ""] = request.split(" ");
  const [path = "", query] = target.split("?", 2);
  const info = requestInfo(method, path, query === undefined ? "" : `?${query}`);
  if (!info.isResource) return `${info.verb} ${info.path}`;
  const group = info.apiGroup === "" ? info.apiVersion : `${info.apiGroup}/${info.apiVersion}`;
  const resource = info.subresource === "" ? info.resource : `${info.resource}/${info.subresource}`;
  return [info.verb, group, resource, info.namespace, info.name].map((part) => (part === "" ? "-" : part)).join(" ");
}

test.each([
  ["GET /api/v1/pods", "list v1 pods - -"],
  ["HEAD /api/v1/pods", "list v1 pods - -"],
  ["OPTIONS /api/v1/pods", "- v1 pods - -"],
  ["GET /api/v1/namespaces/a/pods/x", "get v1 pods a x"],
  ["GET /api/v1/namespaces/a/pods/x/", "get v1 pods a x"],
  ["DELETE /api/v1/namespaces/a/pods/x", "delete v1 pods a x"],
  ["DELETE /api/v1/namespaces/a/pods", "deletecollection v1 pods a -"],
  ["POST /api/v1/namespaces/a/pods/x/exec?command=ls", "create v1 pods/exec a x"],
  ["GET /api/v1/namespaces/a/pods/x/proxy/metrics/y", "get v1 pods/proxy a x"],
  ["PUT /apis/apps/v1/namespaces/a/deployments/x/scale", "update apps/v1 deployments/scale a x"],
  ["GET /api/v1/namespaces", "list v1 namespaces - -"],
  ["GET /api/v1/namespaces/a", "get v1 namespaces a a"],
  ["PUT /api/v1/namespaces/a/finalize", "update v1 namespaces/finalize a a"],
  ["GET /api/v1/namespaces/a/status", "get v1 namespaces/status a a"],
  ["GET /api/v1/namespaces/a/b", "list v1 b a -"],
  ["GET /api/v1/nodes/n/proxy/run", "get v1 nodes/proxy - n"],
  ["POST /api/v1/proxy/namespaces/a/pods/x/y", "proxy v1 pods a x"],
  ["GET /api/v1/watch/namespaces/a/secrets", "watch v1 secrets a -"],
  ["GET /api/v1/watch/namespaces/a/secrets/s", "watch v1 secrets a s"],
  ["DELETE /api/v1/watch/pods", "watch v1 pods - -"],
  [
    "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
    "get rbac.authorization.k8s.io/v1 clusterroles - system:node",
  ],
  ["GET /apis/a%20b/v1/cs", "list a b/v1 cs - -"],
])("resource: %s is %s", (request, expected) => {
  expect(read(request)).toBe(expected);
});

test.each([
  ["GET /", "get /"],
  ["GET /api/v1", "get /api/v1"],
  ["GET /api/v1/", "get /api/v1/"],
  ["GET /apis/apps/v1", "get /apis/apps/v1"],
  ["POST /apis/apps/v1/", "post /apis/apps/v1/"],
  ["HEAD /version", "head /version"],
  ["GET /API/v1/pods", "get /API/v1/pods"],
  ["GET /apis2/v1/pods/x", "get /apis2/v1/pods/x"],
])("no resource: %s is %s", (request, expected) => {
  expect(read(request)).toBe(expected);
});

test.each([
  ["watch=true", "watch", "-"],
  ["watch=1", "watch", "-"],
  ["watch=", "watch", "-"],
  ["watch", "watch", "-"],
  ["watch=yes&watch=0", "watch", "-"],
  ["watch=0", "list", "-"],
  ["watch=FALSE&watch=1", "list", "-"],
  ["wat%63h=1", "watch", "-"],
  ["Watch=1", "list", "-"],
  ["?watch=1", "list", "-"],
  ["fieldSelector=metadata.name%3Dx", "list", "x"],
  ["fieldSelector=metadata.name==x&watch=1", "watch", "x"],
  ["fieldSelector=metadata.name!=x", "list", "-"],
  ["fieldSelector=metadata.name%3Db,metadata.name%3Da", "list", "a"],
  ["fieldSelector=spec.nodeName%3Dn,metadata.name%3Dx", "list", "x"],
  ["fieldSelector=metadata.name%3Da%5C,b", "list", "a,b"],
  ["fieldSelector=metadata.name%3Da%5Cb", "list", "-"],
  ["fieldSelector=metadata.name%3Da,x", "list", "-"],
  ["fieldSelector=metadata.name%3Da/b", "list", "-"],
  ["fieldSelector=metadata.name%3D..", "list", "-"],
  ["fieldSelector=a%3Db&fieldSelector=metadata.name%3Dx", "list", "-"],
  ["fieldSelector=metadata.name%3Dx&limit=5&labelSelector=a%3Db,c+in+(d,e),!f", "list", "x"],
])("a query %s is a %s of the name %s", (query, verb, name) => {
  expect(read(`GET /api/v1/pods?${query}`)).toBe(`${verb} v1 pods - ${name}`);
  expect(read(`GET /api/v1/namespaces/a/pods/x?${query}`)).toBe("get v1 pods a x");
});

test.each([
  "GET /api/v1/watch",
  "GET /apis/apps/v1/proxy/",
  "GET /api/v1/pods?watch=fal%C5%BFe",
  "GET /api/v1/pods?fieldSelector=metadata.name%3Dx&limit=",
  "GET /api/v1/pods?fieldSelector=metadata.name%3Dx&timeoutSeconds=1s",
  "GET /api/v1/pods?fieldSelector=metadata.name%3Dx&labelSelector=a%3D%3D%3Db",
  "GET /api/v1/pods?fieldSelector=metadata.name%3Dx%C3%A4",
])("%s could be read in two ways, so it is refused", (request) => {
  expect(() => read(request)).toThrow(Refusal);
});
