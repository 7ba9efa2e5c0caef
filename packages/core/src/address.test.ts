// spec.address → where to dial, what CONNECT and Host must name, and the path prefix. What could be read two ways is refused.
import { expect, test } from "vitest";
import { parseAddress } from "./address.ts";

test.each([
  ["https://10.0.0.1", "https://10.0.0.1", "10.0.0.1:443", "10.0.0.1", ""],
  ["https://API.Example.com:6443/", "https://api.example.com:6443", "api.example.com:6443", "api.example.com:6443", ""],
  ["https://h:443/kubernetes/global/", "https://h/kubernetes/global", "h:443", "h", "/kubernetes/global"],
  ["https://[2001:DB8::1]:6443", "https://[2001:db8::1]:6443", "[2001:db8::1]:6443", "[2001:db8::1]:6443", ""],
])("%s is understood", (text, url, authority, hostHeader, prefix) => {
  expect(parseAddress(text)).toMatchObject({ url, authority, hostHeader, prefix });
});

test.each([
  ["http://h", "https://"],
  ["h:6443", "https://"],
  ["https://u:p@h", "no user or password"],
  ["https://h?x", "no query"],
  ["https://h#x", "fragment"],
  ["https://", "as its host"],
  ["https://h:0", "port"],
  ["https://h:65536", "port"],
  ["https://2001:db8::1", "HOST"],
  ["https://[h]", "square brackets"],
  ["https://010.1.1.1", "DNS name or an IP"],
  ["https://127.1", "DNS name or an IP"],
  ["https://0x7f.1", "DNS name or an IP"],
  ["https://2130706433", "DNS name or an IP"],
  ["https://h_x", "DNS name or an IP"],
  ["https://h/a/../b", 'without "." and ".."'],
  ["https://h//a", "plain path"],
  ["https://h/a%2fb", "plain path"],
  ["https://h\\@evil", "no user"],
  ["https://h/a b", "plain path"],
])("%s is refused with a sentence", (text, sentence) => {
  expect(() => parseAddress(text)).toThrow(sentence);
});
