/** Header lines, in lower case, sorted by name; lines of one name are in their order. All strings are Latin-1. */
export type Lines = readonly (readonly [name: string, value: string])[];

/** One request, or the final answer, as somebody read it. */
export interface Message {
  /** Of a request; else "". */
  method: string;
  target: string;
  /** Of an answer; else 0. */
  status: number;
  headers: Lines;
  /** Without its framing. */
  body: string;
  trailers: Lines;
  /** Whether its end has come. */
  complete: boolean;
}

/** What somebody read from one connection. */
export interface Reading {
  /** The statuses of the answers before the final one. */
  interim: readonly number[];
  messages: readonly Message[];
  /** Why what follows the last message is none; "" when nothing follows. */
  refused: string;
}

/** The bytes of one connection: the requests that came, or one answer to a request of that method. */
export interface Connection {
  kind: "requests" | "answer";
  method: string;
  bytes: string;
  /** Whether it broke off after the bytes, so that its end ends no body. */
  cut: boolean;
}

/** Somebody who reads HTTP/1.1. */
export interface Reader {
  readonly name: string;
  /** Whether it takes what nobody should send. */
  readonly lenient: boolean;
  read(connection: Connection): Promise<Reading>;
}

export function sortedLines(lines: Lines): Lines {
  return lines
    .map(([name, value]) => [name.toLowerCase(), value] as const)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}
