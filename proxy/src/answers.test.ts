import { Fault } from "@kube-connector/core";
import { expect, test } from "vitest";
import { answerText, connectAnswerText, Refusal, refusalOf } from "./answers.ts";

// Our own answers are a metav1.Status that says what to do, with the same sentence in a Warning header that no sentence
// can break out of.

test("a refusal is a Status with a Warning", () => {
  const [head = "", body = ""] = answerText(new Refusal(403, 'a "quoted" \\ sentence'), {
    method: "GET",
    close: true,
  }).split("\r\n\r\n");
  expect(head).toContain("HTTP/1.1 403 Forbidden\r\n");
  expect(head).toContain(String.raw`Warning: 299 - "a \"quoted\" \\ sentence"`);
  expect(head).toContain(`Content-Length: ${Buffer.byteLength(body)}`);
  expect(head).toContain("\r\nConnection: close");
  expect(JSON.parse(body)).toMatchObject({
    kind: "Status",
    apiVersion: "v1",
    status: "Failure",
    reason: "Forbidden",
    code: 403,
    message: 'a "quoted" \\ sentence',
  });
});

test("unavailable tells the client when to come again", () => {
  const text = answerText(refusalOf(new Fault("unavailable", "no answer")), { method: "GET", close: false });
  expect(text).toContain("HTTP/1.1 503 Service Unavailable\r\n");
  expect(text).toContain("\r\nRetry-After: 3\r\n");
  expect(text).toContain('"retryAfterSeconds":3');
  expect(text).not.toContain("Connection: close");
});

test("an answer to HEAD has no body", () => {
  expect(answerText(new Refusal(404, "x"), { method: "HEAD", close: false }).endsWith("\r\n\r\n")).toBe(true);
});

test("an error that nobody meant for callers is not shown to them", () => {
  const text = answerText(refusalOf(new Error("password=hunter2")), { method: "GET", close: true });
  expect(text).toContain("HTTP/1.1 500");
  expect(text).not.toContain("hunter2");
});

test.each([
  ["line\r\nX-Injected: 1", "line X-Injected: 1"],
  ["caf\u00e9 \u2028 \u0001", "caf? ?"],
])("%j stands in one ASCII line of a head", (sentence, shown) => {
  const refusal = new Refusal(403, sentence);
  expect(connectAnswerText(refusal, { close: true }).split("\r\n", 1)[0]).toBe(`HTTP/1.1 403 ${shown}`);
  expect(answerText(refusal, { method: "GET", close: true })).toContain(`Warning: 299 - "${shown}"`);
});

test("a 407 asks for Basic", () => {
  const text = connectAnswerText(new Refusal(407, "who?"), { close: false });
  expect(text).toContain("HTTP/1.1 407 who?\r\n");
  expect(text).toContain('\r\nProxy-Authenticate: Basic realm="kube-connector"\r\n');
});
