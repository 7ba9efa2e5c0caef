import { expect, test } from "vitest";
import { refusedAddress } from "./dial-rules.ts";

// No address is dialled that leads to the machine it runs on, to a cloud's metadata or to more than one host,
// in whatever spelling it comes. Private ranges are where clusters are.

test.each([
  "10.0.0.1",
  "192.168.1.100",
  "172.16.0.1",
  "100.64.0.1",
  "1.2.3.4",
  "2001:db8::1",
  "fd12:3456::1",
  "::ffff:10.0.0.1",
  "64:ff9b::10.0.0.1",
])("%s may be dialled", (ip) => {
  expect(refusedAddress(ip, { loopback: false })).toBeUndefined();
});

test.each([
  "0.0.0.0",
  "0.1.2.3",
  "169.254.169.254",
  "169.254.0.1",
  "100.100.100.200",
  "168.63.129.16",
  "192.0.0.192",
  "224.0.0.1",
  "239.255.255.255",
  "240.0.0.1",
  "255.255.255.255",
  "::",
  "fe80::1",
  "fe80::1%eth0",
  "febf::1",
  "ff02::1",
  "fd00:ec2::254",
  "fd20:ce::254",
  "::ffff:169.254.169.254",
  "::ffff:a9fe:a9fe",
  "::ffff:0:a9fe:a9fe",
  "64:ff9b::a9fe:a9fe",
  "2002:a9fe:a9fe::1",
  "::a9fe:a9fe",
  "010.0.0.1",
  "0x7f.0.0.1",
  "2130706433",
  "localhost",
  "",
])("%s may not", (ip) => {
  expect(refusedAddress(ip, { loopback: true })).toBeTypeOf("string");
});

test.each([
  "127.0.0.1",
  "127.255.255.254",
  "::1",
  "::ffff:127.0.0.1",
  "::ffff:7f00:1",
  "64:ff9b::127.0.0.1",
  "2002:7f00:1::",
  "::127.0.0.1",
])("%s may only where loopback is allowed", (ip) => {
  expect(refusedAddress(ip, { loopback: false })).toBeTypeOf("string");
  expect(refusedAddress(ip, { loopback: true })).toBeUndefined();
});
