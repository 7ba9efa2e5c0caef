import { BlockList, isIP, isIPv4 } from "node:net";

// Which IP addresses the proxy and the controller's probes never dial, whatever a connector's address or a DNS answer says. Private ranges are fine:
// that is where clusters are.

type Kind = "loopback" | "link-local" | "metadata" | "multicast" | "unspecified" | "reserved";

const refused: readonly [Kind, BlockList][] = (
  [
    ["unspecified", ["0.0.0.0/8", "::/128"]],
    ["link-local", ["169.254.0.0/16", "fe80::/10"]], // the metadata services of most clouds are here
    // Oracle, Alibaba, Azure's wire server, AWS, Google
    ["metadata", ["192.0.0.192/32", "100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128", "fd20:ce::254/128"]],
    ["multicast", ["224.0.0.0/4", "ff00::/8"]],
    ["reserved", ["240.0.0.0/4"]], // with broadcast
  ] as const
).map(([kind, subnets]) => [kind, blockList(subnets)]);

function blockList(subnets: readonly string[]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [network = "", bits] = subnet.split("/");
    list.addSubnet(network, Number(bits), network.includes(":") ? "ipv6" : "ipv4");
  }
  return list;
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** IPv6 ranges whose last 32 bits, or for 6to4 the 32 after the first 16, are an IPv4 address that is reached. */
const embedding = new BlockList();
embedding.addSubnet("::ffff:0:0", 96, "ipv6"); // IPv4-mapped
embedding.addSubnet("::ffff:0:0:0", 96, "ipv6"); // IPv4-translated (SIIT)
embedding.addSubnet("::", 96, "ipv6"); // IPv4-compatible
embedding.addSubnet("64:ff9b::", 96, "ipv6"); // NAT64
const sixToFour = new BlockList();
sixToFour.addSubnet("2002::", 16, "ipv6");

/**
 * Why that IP, as a resolver gave it, may not be dialled: its kind, or "malformed" for what is no IP. undefined: it may.
 * `loopback` allows this machine itself, for standalone and tests.
 */
export function refusedAddress(ip: string, options: { loopback: boolean }): Kind | "malformed" | undefined {
  if (isIP(ip) === 0) return "malformed";
  const family = isIPv4(ip) ? "ipv4" : "ipv6";
  const v4 = isIPv4(ip) ? ip : embeddedV4(ip);
  if (loopback.check(ip, family) || (v4 !== undefined && loopback.check(v4, "ipv4"))) {
    return options.loopback ? undefined : "loopback";
  }
  const found = refused.find(([, list]) => list.check(ip, family) || (v4 !== undefined && list.check(v4, "ipv4")));
  return found?.[0];
}

function embeddedV4(ip: string): string | undefined {
  const isSixToFour = sixToFour.check(ip, "ipv6");
  if (!isSixToFour && !embedding.check(ip, "ipv6")) return undefined;
  const words = wordsOf(ip);
  const [high = 0, low = 0] = isSixToFour ? words.slice(1, 3) : words.slice(6, 8);
  return [high >> 8, high & 255, low >> 8, low & 255].join(".");
}

/** The eight 16-bit words of an IPv6 address. */
function wordsOf(ip: string): number[] {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(ip.split("%")[0] ?? "");
  const [, head = "", a = "0", b = "0", c = "0", d = "0"] = dotted ?? [];
  const plain =
    dotted === null
      ? (ip.split("%")[0] ?? "")
      : `${head}${((Number(a) << 8) | Number(b)).toString(16)}:${((Number(c) << 8) | Number(d)).toString(16)}`;
  const [left = "", right] = plain.split("::");
  const parse = (part: string) => (part === "" ? [] : part.split(":").map((word) => Number.parseInt(word, 16)));
  const front = parse(left);
  const back = right === undefined ? [] : parse(right);
  return [...front, ...Array.from({ length: 8 - front.length - back.length }, () => 0), ...back];
}
