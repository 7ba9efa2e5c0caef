// The connector's CA and leaf: accepted by OpenSSL in strict mode, by Go's crypto/x509 and by Node for the target's host
// and the service names, refused for any other name and any other address; and a CA cannot vouch for more than it says.
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import {
  addressBytes,
  authorityFits,
  type CertificateNames,
  mintAuthority,
  mintLeaf,
  nameConstraints,
} from "./certificates.ts";

const folder = mkdtempSync(join(tmpdir(), "certificates-"));
afterAll(() => rmSync(folder, { recursive: true }));

const services = ["c-prod.team-a.svc.cluster.local", "c-prod.team-a.svc"];
const uid = "9f1b7c9e-6f1d-4a58-8a51-2f3b4c5d6e7f";
const targets: Record<string, { host: string; other: string[] }> = {
  "a DNS name": { host: "api.prod.example", other: ["api.example", "prod.example", "10.0.0.1", "::1"] },
  "an IPv4 address": { host: "192.168.1.100", other: ["192.168.1.101", "api.prod.example", "::1", "::ffff:c0a8:165"] },
  "an IPv6 address": { host: "fd00::17", other: ["fd00::18", "192.168.1.100", "api.prod.example"] },
};

function openssl(ca: string, leaf: string, name: string): boolean {
  const flag = /^[\d.]+$|:/.test(name) ? "-verify_ip" : "-verify_hostname";
  try {
    const args = ["verify", "-x509_strict", "-purpose", "sslserver", flag, name, "-CAfile", ca, leaf];
    execFileSync("openssl", args, { stdio: "pipe" });
    return true;
  } catch {
    return false;
  }
}

function goVerifies(ca: string, leaf: string, name: string): boolean {
  const output = execFileSync(goVerifier(), [ca, leaf, name], { stdio: "pipe" }).toString();
  return output.trim() === "ok";
}

let built: string | undefined;
function goVerifier(): string {
  if (built !== undefined) return built;
  const source = join(folder, "verify.go");
  writeFileSync(
    source,
    `package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func read(file string) *x509.Certificate {
	text, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err)
	}
	return certificate
}

func main() {
	roots := x509.NewCertPool()
	roots.AddCert(read(os.Args[1]))
	_, err := read(os.Args[2]).Verify(x509.VerifyOptions{Roots: roots, DNSName: os.Args[3]})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ok")
}
`,
  );
  built = join(folder, "verify");
  const path = `${process.env.PATH}:/usr/local/go/bin`;
  execFileSync("go", ["build", "-o", built, source], { env: { ...process.env, PATH: path, GO111MODULE: "off" } });
  return built;
}

function save(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

describe.each(Object.entries(targets))("for %s as the target", (_, { host, other }) => {
  const names: CertificateNames = { uid, host, serviceNames: services };
  const mint = async () => {
    const authority = await mintAuthority(names, Date.now());
    return { authority, leaf: await mintLeaf(authority, names, Date.now()) };
  };

  test("OpenSSL, Go and Node accept the host and the service names, and refuse every other", async () => {
    const { authority, leaf } = await mint();
    const ca = save("ca.pem", authority.certificate);
    const file = save("leaf.pem", leaf.certificate);
    for (const name of [host, ...services]) {
      expect({ name, openssl: openssl(ca, file, name), go: goVerifies(ca, file, name) }).toEqual({
        name,
        openssl: true,
        go: true,
      });
    }
    for (const name of other) {
      expect({ name, openssl: openssl(ca, file, name), go: goVerifies(ca, file, name) }).toEqual({
        name,
        openssl: false,
        go: false,
      });
    }
    const read = new X509Certificate(leaf.certificate);
    expect(read.checkIssued(new X509Certificate(authority.certificate))).toBe(true);
  }, 120_000);

  test("attack 18: a leaf for another host, signed by this CA, is refused: the name constraints hold", async () => {
    const { authority } = await mint();
    const ca = save("ca.pem", authority.certificate);
    for (const stranger of other) {
      const leaf = save(
        "stranger.pem",
        (await mintLeaf(authority, { ...names, host: stranger }, Date.now())).certificate,
      );
      expect({ stranger, openssl: openssl(ca, leaf, stranger), go: goVerifies(ca, leaf, stranger) }).toEqual({
        stranger,
        openssl: false,
        go: false,
      });
    }
  }, 120_000);

  test("a CA fits its own names only", async () => {
    const { authority } = await mint();
    const read = new X509Certificate(authority.certificate);
    expect(authorityFits(read, names)).toBe(true);
    for (const stranger of other) expect(authorityFits(read, { ...names, host: stranger })).toBe(false);
  });
});

test("lives: the CA a year, the leaf 30 days and never longer than its CA, both an hour back", async () => {
  const names = { uid, host: "api.prod.example", serviceNames: services };
  const now = Date.parse("2026-01-01T00:00:00Z");
  const authority = await mintAuthority(names, now);
  const ca = new X509Certificate(authority.certificate);
  expect([ca.validFromDate.toISOString(), ca.validToDate.toISOString()]).toEqual([
    "2025-12-31T23:00:00.000Z",
    "2027-01-01T00:00:00.000Z",
  ]);
  const leaf = new X509Certificate((await mintLeaf(authority, names, now)).certificate);
  expect(leaf.validToDate.toISOString()).toBe("2026-01-31T00:00:00.000Z");
  const late = new X509Certificate((await mintLeaf(authority, names, Date.parse("2026-12-20T00:00:00Z"))).certificate);
  expect(late.validToDate.toISOString()).toBe(ca.validToDate.toISOString());
  expect(leaf.subject).toBe(`CN=connector ${uid}`);
  expect(BigInt(`0x${ca.serialNumber}`) >> 127n).toBe(0n);
  expect(ca.serialNumber).toHaveLength(32);
});

test("the key and names never show in what a minted certificate prints", async () => {
  const authority = await mintAuthority({ uid, host: "api.prod.example", serviceNames: services }, Date.now());
  expect(JSON.stringify(authority)).not.toContain("PRIVATE");
});

test("IPv6 addresses in every spelling become the same 16 bytes, and DER lengths of two bytes are written", () => {
  expect(addressBytes("::1").toString("hex")).toBe(`${"0".repeat(31)}1`);
  expect(addressBytes("fd00:0:0::17").toString("hex")).toBe("fd000000000000000000000000000017");
  expect(addressBytes("::ffff:10.0.0.1").toString("hex")).toBe("00000000000000000000ffff0a000001");
  const long = `${"a".repeat(60)}.${"b".repeat(60)}.${"c".repeat(60)}.${"d".repeat(60)}`;
  expect(nameConstraints({ uid, host: long, serviceNames: services }).length).toBeGreaterThan(255);
});
