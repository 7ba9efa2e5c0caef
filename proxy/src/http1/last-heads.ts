import { RequestTokens } from "../gate.ts";
import { LastClientCuts, LastUpstreamLines } from "../headers.ts";
import { LastHost } from "../target.ts";
import { LastLines } from "./head.ts";

/**
 * What one client connection read and wrote last. A client sends the same header lines with each request, and a target
 * answers with the same ones but for a few, so that most of what follows from them alone is made once.
 */
export class LastHeads {
  readonly requests = new LastLines();
  readonly host = new LastHost();
  readonly tokens = new RequestTokens();
  readonly toTarget = new LastUpstreamLines();
  readonly answers = new LastLines();
  readonly toClient = new LastClientCuts();
}
