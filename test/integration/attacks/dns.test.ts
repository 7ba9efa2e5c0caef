import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";

// A name server that answers with another address each time, as in DNS rebinding. It takes network and mount namespaces: the
// resolver asks port 53, and the addresses must be there.

const honest = "10.99.0.1";
const metadata = "169.254.169.254";

/** Whether this process may make namespaces: as root, or where users may. */
function mayUnshare(): boolean {
  try {
    execFileSync("unshare", ["--map-root-user", "--mount", "--net", "true"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

test.skipIf(!mayUnshare())(
  "attack 15: a name that leads elsewhere at each question is dialled only where it may be (mounts in a namespace of its own)",
  async () => {
    const folder = await mkdtemp(join(tmpdir(), "rebinding-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, "resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    const main = fileURLToPath(new URL("../../kit/rebinding-main.ts", import.meta.url));
    const script = [
      "set -e",
      "ip link set lo up",
      `ip address add ${honest}/32 dev lo`,
      `ip address add ${metadata}/32 dev lo`,
      `mount --bind ${folder}/resolv.conf "$(readlink -f /etc/resolv.conf)"`,
      `exec "${process.execPath}" "${main}" ${honest} ${metadata}`,
    ];
    const args = ["--map-root-user", "--mount", "--net", "sh", "-c", script.join("\n")];
    const { stdout } = await promisify(execFile)("unshare", args);
    const { statuses, came, asked } = JSON.parse(stdout) as { statuses: number[]; came: object; asked: number };
    // A read whose target could not be dialled is tried once more, so a question may have two answers.
    expect(asked).toBeGreaterThanOrEqual(20);
    expect(new Set(statuses)).toEqual(new Set([200, 502]));
    expect(came).toEqual({ [honest]: statuses.filter((status) => status === 200).length, [metadata]: 0 });
  },
);
