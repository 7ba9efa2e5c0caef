// `make demo` where there is no terminal: it shows a call through the proxy, says what the kubeconfig does not hold, ends by
// itself with 0, and leaves nothing behind.
import { chmod, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createFolder, kubectl, start } from "../kit/standalone.ts";

test("the demo shows a call and ends with 0 where there is no terminal, with and without kubectl", async () => {
  const demo = new URL("../kit/demo.ts", import.meta.url).pathname;
  const temporary = await createFolder();
  const bin = await createFolder();
  await writeFile(join(bin, "kubectl"), `#!/bin/sh\nexec ${kubectl} "$@"\n`);
  await chmod(join(bin, "kubectl"), 0o755);
  const env = { XDG_RUNTIME_DIR: temporary, TMPDIR: temporary };
  const withKubectl = await start(process.execPath, [demo], { ...env, PATH: `${bin}:${process.env.PATH}` }).done;
  expect(withKubectl).toMatchObject({
    status: 0,
    output: expect.stringContaining("kubectl get pods\n  NAME") as unknown,
  });
  const without = await start(process.execPath, [demo], { ...env, PATH: temporary }).done;
  expect(without).toMatchObject({ status: 0, output: expect.stringContaining("built-in call") as unknown });
  for (const { output } of [withKubectl, without]) expect(output.match(/✓/g)).toHaveLength(2);
  expect(await readdir(temporary)).toEqual([]);
});
