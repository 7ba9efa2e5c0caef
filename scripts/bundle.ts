// One file per program into dist/, for the images: what a container runs is a single .mjs and Node.
import { build } from "esbuild";

const programs = {
  proxy: "proxy/src/main.ts",
  controller: "controller/src/main.ts",
  "csi-driver": "csi-driver/src/main.ts",
  "kube-connector": "packages/cli/src/main.ts",
};

await build({
  entryPoints: Object.entries(programs).map(([out, entry]) => ({ in: entry, out })),
  outdir: "dist",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  minifySyntax: true,
  legalComments: "linked",
  logLevel: "warning",
  // CommonJS packages in the bundle call require(); an ES module has none of its own.
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
});
