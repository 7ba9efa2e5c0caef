import { expect, test } from "vitest";
import type { RequestHead } from "../http1/head.ts";
import { plainField, secretField } from "./field.ts";
import { RequestTokens } from "./request-tokens.ts";

// The token of each request of one connection: the same object for the same field, and nothing but a single one counts.

const of = (tokens: RequestTokens, ...headers: RequestHead["headers"]) => tokens.of({ headers } as RequestHead);
const accept = plainField("accept", "*/*");
const one = secretField("authorization", "Bearer one");
const two = secretField("authorization", "Bearer two");

test("the same field gives the same token, another field its own", () => {
  const tokens = new RequestTokens();
  const first = of(tokens, accept, one);
  expect(first.reveal()).toBe("one");
  expect(of(tokens, one, accept)).toBe(first);
  expect(of(tokens, two).reveal()).toBe("two");
  expect(of(tokens, one).reveal()).toBe("one");
});

test("none, two or no bearer is refused, whatever came before", () => {
  const tokens = new RequestTokens();
  of(tokens, one);
  for (const headers of [[accept], [one, one], [one, two], [two, one], [secretField("authorization", "Basic b25l")]]) {
    expect(() => of(tokens, ...headers)).toThrow(expect.objectContaining({ http: 401 }));
  }
  expect(of(tokens, one).reveal()).toBe("one");
});
