import type { ServerResponse } from "node:http";
import { badRequest } from "./refusal.ts";
import type { PodLog } from "./pods.ts";

/** Answers `pods/<name>/log`: what there is, and with follow=true each new line until the pod or the client goes. */
export function answerLog(response: ServerResponse, log: PodLog, query: URLSearchParams): void {
  const tail = query.get("tailLines");
  if (tail !== null && !/^\d+$/.test(tail)) throw badRequest("tailLines should be a whole number");
  if (query.get("previous") === "true") throw badRequest("previous terminated container not found");
  const lines = tail === null ? log.lines : log.lines.slice(Math.max(0, log.lines.length - Number(tail)));
  const shown = (line: string) =>
    query.get("timestamps") === "true" ? `${line.split(" ")[0]} ${line}\n` : `${line}\n`;
  response.writeHead(200, { "content-type": "text/plain" });
  response.write(lines.map(shown).join(""));
  if (query.get("follow") !== "true") {
    response.end();
    return;
  }
  response.flushHeaders();
  const unfollow = log.follow((line) => {
    if (line === undefined) response.end();
    else response.write(shown(line));
  });
  response.once("close", unfollow);
}
