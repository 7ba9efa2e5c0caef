// What the store asks of a database. sqlite.ts and postgres.ts are it; the SQL above them is written once.

export type Value = string | number | null;

/** Runs one statement; `?` stands for each value in turn. Rejects with a Fault. */
export type Query = <Row = Record<string, never>>(sql: string, values?: readonly Value[]) => Promise<Row[]>;

export interface Database {
  /** For people: where it is, without a password. */
  readonly place: string;
  /** Before the name of each table: "" or `schema.`. */
  readonly schema: string;
  /** The type of a text that is compared and sorted byte by byte. */
  readonly textType: string;
  /** SQL for the milliseconds since 1970 by the database's clock. */
  readonly now: string;
  /** SQL that locks the rows of a SELECT until the transaction's end, and passes over those that others have locked. */
  readonly lockFreeRows: string;
  /** Statements before a migration, in its transaction: after them no other process migrates. */
  readonly beforeMigration: readonly string[];
  /** Sees what was committed; each call by itself. */
  read: Query;
  /**
   * One transaction: committed, and on the disk, once the promise resolves; rolled back when `work` rejects. It may run
   * `work` again from its start when the database asks for that.
   */
  write<T>(work: (query: Query) => Promise<T>): Promise<T>;
  stop(): Promise<void>;
}
