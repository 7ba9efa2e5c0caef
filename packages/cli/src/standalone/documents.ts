import { LineCounter, parseAllDocuments } from "yaml";

/** One object of a file. */
export interface FoundObject {
  /** `prod.yaml:12`: for sentences about it. */
  where: string;
  value: Record<string, unknown>;
}

export interface ParsedFile {
  objects: FoundObject[];
  /** Sentences, each beginning with file and line. They never quote the file: it may hold a token. */
  problems: string[];
}

/** What is wrong with YAML text, by the parser's code. Its own messages quote the text, so they are not shown. */
const sentences: Record<string, string> = {
  BAD_INDENT: "the indentation is wrong",
  BLOCK_AS_IMPLICIT_KEY: 'a mapping inside a mapping needs its own line (or ": " in a text needs quotes)',
  DUPLICATE_KEY: "the same key stands twice in one mapping",
  MISSING_CHAR: "a character is missing, such as a closing quote or bracket, a comma or a colon",
  TAB_AS_INDENT: "a tab is used for indentation; use spaces",
  MULTILINE_IMPLICIT_KEY: 'a line has no "key: value"; is a colon missing?',
  BAD_ALIAS: "an alias (*name) has no anchor (&name)",
  BAD_DQ_ESCAPE: "a double-quoted text has an escape that YAML does not know",
};

/** The objects in the YAML or JSON text of a file: several documents, and the items of a List. */
export function parseDocuments(file: string, text: string): ParsedFile {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text.replace(/^\uFEFF/, ""), {
    lineCounter: lines,
    prettyErrors: false,
    logLevel: "silent",
  });
  const parsed: ParsedFile = { objects: [], problems: [] };
  if (!Array.isArray(documents)) return parsed;
  for (const document of documents) {
    const [error] = document.errors;
    if (error !== undefined) {
      const { line } = lines.linePos(error.pos[0]);
      const sentence = sentences[error.code] ?? "something here is not YAML";
      parsed.problems.push(`${file}:${line}: ${sentence} (${error.code})`);
      continue;
    }
    const { line } = lines.linePos(document.contents?.range?.[0] ?? 0);
    const where = `${file}:${line}`;
    let value: unknown;
    try {
      value = document.toJS({ maxAliasCount: 100 });
    } catch {
      parsed.problems.push(`${where}: the aliases of this document cannot be resolved`);
      continue;
    }
    addObject(parsed, where, value);
  }
  return parsed;
}

function addObject(parsed: ParsedFile, where: string, value: unknown): void {
  if (value === null || value === undefined) return;
  if (typeof value !== "object" || Array.isArray(value)) {
    parsed.problems.push(`${where}: a document should be a Kubernetes object, with apiVersion, kind and metadata`);
    return;
  }
  const object = value as Record<string, unknown>;
  if (object.kind === "List" && Array.isArray(object.items)) {
    for (const item of object.items as unknown[]) addObject(parsed, where, item);
  } else parsed.objects.push({ where, value: object });
}
