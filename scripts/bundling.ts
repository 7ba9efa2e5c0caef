import { cp } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { type BuildOptions, build } from "esbuild";

/** How programs are bundled: for the images, and where a bench measures what an image runs. */
export const bundling = {
  outExtension: { ".js": ".mjs" },
  bundle: true,
  splitting: true,
  platform: "node",
  target: "node24",
  format: "esm",
  // Names stay, for stack traces: to have them shortened and kept cost a call for each function that is made.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: "linked",
  logLevel: "warning",
  // CommonJS packages in the bundle call require(); an ES module has none of its own.
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
} as const satisfies BuildOptions;

/** The programs of the images; `files` are folders that are read at run time, beside whoever reads them. */
export const programs: Readonly<Record<string, { entry: string; files?: string }>> = {
  proxy: { entry: "proxy/src/main.ts" },
  controller: { entry: "controller/src/main.ts" },
  "csi-driver": { entry: "csi-driver/src/main.ts" },
  "kube-connector": { entry: "packages/cli/src/main.ts", files: "packages/jobs/src/api/page" },
};

/** Bundles one of them into a folder: `NAME.mjs` and what it imports only when it needs it. */
export async function bundleProgram(name: string, folder: string): Promise<void> {
  const { entry = "", files } = programs[name] ?? {};
  const at = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url));
  await build({ ...bundling, entryPoints: [{ in: at(entry), out: name }], outdir: folder, absWorkingDir: at("") });
  if (files !== undefined) await cp(at(files), `${folder}/${files.split("/").at(-1)}`, { recursive: true });
}
