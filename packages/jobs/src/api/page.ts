import { readFileSync } from "node:fs";
import type { Express } from "express";

// The page: five files as they are. They hold no data, so they need no token; the page asks for it and shows it to /v1.

const files = {
  "/": { name: "index.html", type: "html" },
  "/page.js": { name: "page.js", type: "js" },
  "/draw.js": { name: "draw.js", type: "js" },
  "/calls.js": { name: "calls.js", type: "js" },
  "/page.css": { name: "page.css", type: "css" },
} as const;

export function pageRoutes(app: Express): void {
  for (const [path, { name, type }] of Object.entries(files)) {
    const content = readFileSync(new URL(`./page/${name}`, import.meta.url), "utf8");
    app.get(path, (_request, response) => void response.type(type).send(content));
  }
}
