import type { BuildOptions } from "esbuild";

/** How programs are bundled: for the images, and where a bench measures what an image runs. */
export const bundling = {
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
} as const satisfies BuildOptions;
