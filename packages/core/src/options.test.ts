// Settings: flag, then environment, then default; every problem at once.
import { expect, test } from "vitest";
import { type Options, optionsMarkdown, readOptions, value } from "./options.ts";

interface Settings {
  port: number;
  proxyImage: string | undefined;
  listen: { host: string; port: number };
  wait: number;
}
const table: Options<Settings> = {
  port: { meaning: "A port.", default: "80", parse: value.whole(1, 65_535) },
  proxyImage: { meaning: "An image.", default: undefined, parse: value.text },
  listen: { meaning: "Where.", default: "0.0.0.0:1", parse: value.listen },
  wait: { meaning: "How long.", default: "10s", parse: value.duration },
};

test("a flag beats the environment, which beats the default; nothing given has no value", () => {
  expect(readOptions(table, [], {})).toEqual({ port: 80, listen: { host: "0.0.0.0", port: 1 }, wait: 10_000 });
  expect(readOptions(table, [], { KUBE_CONNECTOR_PORT: "81" }).port).toBe(81);
  expect(readOptions(table, ["--port", "82"], { KUBE_CONNECTOR_PORT: "81" }).port).toBe(82);
  expect(readOptions(table, ["--proxy-image=x", "--listen", "[::]:9"], {})).toMatchObject({
    proxyImage: "x",
    listen: { host: "::", port: 9 },
  });
});

test("all problems are in one message", () => {
  const read = () => readOptions(table, ["--prot", "1", "--wait", "10", "--port", "0", "stray"], {});
  expect(read).toThrow(/--port: "0" should be a whole number[\s\S]*|unknown flag --prot/);
  expect(read).toThrow("unknown flag --prot");
  expect(read).toThrow('"10" should be a duration');
  expect(read).toThrow('"stray" is no flag');
  expect(() => readOptions(table, ["--prot", "1"], {})).not.toThrow('"1" is no flag');
});

test("the README's table comes from the same place", () => {
  expect(optionsMarkdown(table)).toContain("| `--proxy-image` | `KUBE_CONNECTOR_PROXY_IMAGE` |  | An image. |");
});
