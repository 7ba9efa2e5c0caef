import type { Input } from "./input.ts";
import type { Run, Subject, Written } from "./memory-proxy.ts";
import { type OwnReading, readOwn } from "./own-reading.ts";
import type { Connection } from "./reading.ts";

// The proxy with one of its rules off: what the rule is about is hidden from it in a header that nobody knows, and put
// back behind it. So it lets pass what it would refuse, and everything else is as it is.

/** What a rule of the framer refuses, in a head. */
export const rules: Readonly<Record<string, RegExp>> = {
  "no blank before a colon": /(?<=\r\n)[A-Za-z-]+[ \t]+:[^\r\n]*(?=\r\n)/g,
  "no folded lines": /(?<=\r\n)[^\r\n]+\r\n[ \t][^\r\n]*(?=\r\n)/g,
  "one Content-Length": /(?<=\r\nContent-Length:[^]*\r\n)Content-Length:[^\r\n]*(?=\r\n)/gi,
  "a length is digits": /(?<=\r\n)Content-Length: *[^\d\r\n][^\r\n]*(?=\r\n)/gi,
  "no coding but chunked": /(?<=\r\n)Transfer-Encoding:(?! *chunked\r)[^\r\n]*(?=\r\n)/gi,
  "no coding beside a length": /(?<=\r\nContent-Length:[^]*\r\n)Transfer-Encoding:[^\r\n]*(?=\r\n)/gi,
  "lines end in CRLF": /(?<=\r\n)[^\r\n]+(?:\r(?!\n)|(?<!\r)\n)[^\r\n]*(?=\r\n)/g,
  "no control characters": /(?<=\r\n)[A-Za-z-]+:[^\r\n]*[^\t\r\n\x20-\x7e\x80-\xff][^\r\n]*(?=\r\n)/g,
};

const hidden = /X-Hidden-([0-9a-f]+): 1(?=\r\n)/g;

function hide(text: string, what: RegExp): string {
  const end = text.indexOf("\r\n\r\n") + 2;
  const hexOf = (line: string) => Buffer.from(line, "latin1").toString("hex");
  return text.slice(0, end).replaceAll(what, (line) => `X-Hidden-${hexOf(line)}: 1`) + text.slice(end);
}

function show(text: string): string {
  return text.replaceAll(hidden, (_all, hex: string) => Buffer.from(hex, "hex").toString("latin1"));
}

const shown = (written: Written) => ({ ...written, bytes: show(written.bytes) });

/** Carries inputs without that rule. */
export function withoutRule(subject: Subject, what: RegExp): Subject {
  return {
    async run(input: Input, split): Promise<Run> {
      const run = await subject.run({ ...input, bytes: hide(input.bytes, what) }, split);
      return { ...run, upstream: run.upstream.map(shown), client: shown(run.client) };
    },
  };
}

/** What the framer reads without that rule: nothing where the rule was broken. */
export function readWithoutRule(what: RegExp): (connection: Connection) => OwnReading {
  return (connection) => {
    const own = readOwn({ ...connection, bytes: hide(connection.bytes, what) });
    for (const message of own.messages)
      message.headers = message.headers.filter(([name]) => !name.startsWith("x-hidden-"));
    return own;
  };
}

/** Carries inputs, and loses a byte where one of two pieces ends. */
export function losingBytes(subject: Subject): Subject {
  return {
    run: (input, split) => {
      const at = split.length < 2 ? 0 : (split[0]?.length ?? 0);
      return subject.run(
        { ...input, bytes: at === 0 ? input.bytes : input.bytes.slice(0, at - 1) + input.bytes.slice(at) },
        split,
      );
    },
  };
}
