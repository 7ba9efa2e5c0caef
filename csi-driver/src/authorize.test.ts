// May the pod use the Connector? Only a clear yes is one; pods that ask the same at once share a review.

import { type ApiServer, Fault } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createAuthorize } from "./authorize.ts";

const question = {
  pod: { namespace: "team-b", serviceAccount: "ci" },
  connector: { namespace: "team-a", name: "prod" },
};

/** An API server that answers each request with what `answer` gives or throws. */
function answering(answer: () => Promise<unknown>): { api: ApiServer; asked: unknown[] } {
  const asked: unknown[] = [];
  const request = async <T>(_method: string, _path: string, options?: unknown): Promise<T> => {
    asked.push(options);
    return (await answer()) as T;
  };
  return { asked, api: { request, open: () => Promise.reject(new Error("not asked")), stop: async () => undefined } };
}

test("a review that allows is a yes, at most 5 s after it was asked", async () => {
  const { api, asked } = answering(async () => ({ status: { allowed: true } }));
  await createAuthorize(api)(question);
  expect(asked).toMatchObject([{ timeout: 5000, body: { spec: { user: "system:serviceaccount:team-b:ci" } } }]);
});

test.each([[{ status: { allowed: false } }], [{ status: {} }], [{}], [undefined], [{ status: { allowed: "true" } }]])(
  "anything else is a no that names the grant: %j",
  async (answer) => {
    const { api } = answering(async () => answer);
    const asked = createAuthorize(api)(question);
    await expect(asked).rejects.toMatchObject({ code: "permission_denied" });
    await expect(asked).rejects.toThrow('Role in namespace team-a with verb "use"');
  },
);

test.each([
  ["no answer in time", new Fault("deadline_exceeded", "no answer")],
  ["a driver that may not ask", new Fault("permission_denied", "subjectaccessreviews is forbidden")],
  ["anything unknown", new Error("boom")],
])("%s is neither yes nor no: the kubelet tries again", async (_, error) => {
  const { api } = answering(() => Promise.reject(error));
  await expect(createAuthorize(api)(question)).rejects.toMatchObject({ code: "unavailable" });
});

test("the same question at the same time is asked once, and later again", async () => {
  const { api, asked } = answering(async () => ({ status: { allowed: true } }));
  const authorize = createAuthorize(api);
  await Promise.all(Array.from({ length: 110 }, () => authorize(question)));
  expect(asked).toHaveLength(1);
  await authorize(question);
  await authorize({ ...question, pod: { namespace: "team-b", serviceAccount: "other" } });
  expect(asked).toHaveLength(3);
});
