// The programs for the images, into dist/<program>/: Node and these files are all that a container holds. What is imported
// lazily stays in files of its own, as V8 reads a file whole: with client-node inside, each process took 60 MB more.
import { rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { bundling } from "./bundling.ts";

const programs = {
  proxy: "proxy/src/main.ts",
  controller: "controller/src/main.ts",
  "csi-driver": "csi-driver/src/main.ts",
  "kube-connector": "packages/cli/src/main.ts",
};

const dist = fileURLToPath(new URL("../dist", import.meta.url));
await rm(dist, { recursive: true, force: true });
for (const [out, entry] of Object.entries(programs)) {
  await build({
    entryPoints: [{ in: entry, out }],
    outdir: `${dist}/${out}`,
    ...bundling,
  });
}
