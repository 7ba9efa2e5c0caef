// The programs for the images, into dist/<program>/: Node and these files are all that a container holds. What is imported
// lazily stays in files of its own, as V8 reads a file whole: with client-node inside, each process took 60 MB more.
import { rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

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
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    platform: "node",
    target: "node24",
    format: "esm",
    minify: true,
    keepNames: true,
    legalComments: "linked",
    logLevel: "warning",
    // CommonJS packages in the bundle call require(); an ES module has none of its own.
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
  });
}
