import type { Overlay } from "../definition/definition.ts";
import { containerOf, envVar, type JobManifest, setEnv, setResources } from "./manifest.ts";

/**
 * The manifest with the overlay on its named container, else on the first. A variable is replaced in place, and with it its
 * valueFrom: both at once would be invalid. A new one comes last, so it may refer to the others, and beats envFrom. A
 * Fault lists the containers when the named one is not there.
 */
export function applyOverlay(manifest: JobManifest, overlay: Overlay): JobManifest {
  const changed = structuredClone(manifest);
  const container = containerOf(changed.spec.template, overlay.container);
  for (const [name, value] of Object.entries(overlay.env ?? {})) setEnv(container, envVar(name, value));
  if (overlay.image !== undefined) container.image = overlay.image;
  if (overlay.command !== undefined) container.command = [...overlay.command];
  if (overlay.args !== undefined) container.args = [...overlay.args];
  if (overlay.resources !== undefined) setResources(container, overlay.resources);
  return changed;
}
