import type { Splice } from "../upgrade.ts";
import type { Exchange } from "./exchange.ts";
import type { RequestInHand } from "./request.ts";

/** What a client connection is doing. */
export type State =
  | { name: "waiting"; until: number; begun: boolean }
  | { name: "deciding"; request: RequestInHand }
  | { name: "exchanging"; request: RequestInHand; exchange: Exchange; bodyAt: number }
  | { name: "spliced"; request: RequestInHand; splice: Splice }
  /** Our last word is written; what still comes is thrown away. */
  | { name: "closing"; until: number }
  | { name: "closed" };
