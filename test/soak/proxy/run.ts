import type { Crowd } from "./crowd.ts";
import type { Held, WatchedProxy } from "./watched-proxy.ts";
import type { World } from "./world.ts";

export interface SoakOptions {
  /** Seconds of load. */
  seconds: number;
  seed: number;
  /** Folder for heap snapshots of both quiet moments. */
  snapshots?: string | undefined;
  say: (line: string) => void;
}

export interface Run {
  options: SoakOptions;
  world: World;
  proxy: WatchedProxy;
  crowd: Crowd;
  began: number;
  /** Resident bytes of the proxy, one sample a second under load. */
  resident: number[];
  /** The longest time that this machine kept a timer waiting, in milliseconds. */
  lag: number;
  /** Nothing more is begun. */
  isOver: boolean;
}

/** A quiet moment: what the proxy then holds, and what would not go away. */
export interface Quiet extends Held {
  /** Entries of /debug/streams, and connections, that were still there when their time was over. */
  left: string[];
}

export function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
