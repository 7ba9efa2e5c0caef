// The programs for the images, into dist/<program>/: Node and these files are all that a container holds. What is imported
// lazily stays in files of its own, as V8 reads a file whole: with client-node inside, each process took 60 MB more.
import { rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { bundleProgram, programs } from "./bundling.ts";

const dist = fileURLToPath(new URL("../dist", import.meta.url));
await rm(dist, { recursive: true, force: true });
for (const name of Object.keys(programs)) await bundleProgram(name, `${dist}/${name}`);
