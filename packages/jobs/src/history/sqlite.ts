import { chmodSync, closeSync, mkdirSync, openSync, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import {
  type Clock,
  describeErrno,
  errnoOf,
  Fault,
  type FaultCode,
  type Log,
  sleep,
  systemClock,
} from "@kube-connector/core";
import type { Database, Query, Value } from "./database.ts";
import { openSqlStore } from "./sql-store.ts";
import type { Store } from "./store.ts";

export interface SqliteOptions {
  /** Made when it is not there, readable by this user only, in a folder that is made likewise. On a local disk. */
  file: string;
  /** Whose time leases are measured by: all processes with this file must have the same. The machine's unless told. */
  clock?: Clock;
  log: Log;
}

/** "kcjb", in the header of the file: it is ours. */
const applicationId = 0x6b636a62;

/** How long another process may hold the file before a call fails, in milliseconds. */
const patience = 5_000;

/**
 * The history in one file. Several processes of one machine may have it open. Rejects with `invalid_argument` when the
 * file cannot be used as it is, and says what to change.
 */
export async function openSqliteStore(options: SqliteOptions): Promise<Store> {
  const file = resolve(options.file);
  const database = await openDatabase(file, options.clock ?? systemClock);
  try {
    const store = await openSqlStore(database);
    options.log.info("The history is open", { file });
    return store;
  } catch (error) {
    await database.stop();
    throw error instanceof Fault ? atOpen(error) : error;
  }
}

async function openDatabase(file: string, clock: Clock): Promise<Database> {
  const opened: Connection[] = [];
  try {
    makePrivate(file);
    // Another process may be making the file at this moment.
    const writer = await patiently(() => connect(file, clock), file);
    opened.push(writer);
    await patiently(() => setUp(writer, file), file);
    // Reads have a connection of their own, so that they see what was committed and nothing of an open transaction.
    const reader = await patiently(() => connect(file, clock), file);
    opened.push(reader);
    await patiently(() => reader.database.exec("PRAGMA query_only = ON; PRAGMA cache_size = -32768"), file);
    return createDatabase(file, writer, reader);
  } catch (error) {
    for (const { database } of opened) database.close();
    throw atOpen(sqliteFault(error, file));
  }
}

function makePrivate(file: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const there = statSync(file, { throwIfNoEntry: false });
  if (there && !there.isFile()) throw new Fault("invalid_argument", `The history ${file} is not a file: name one`);
  // SQLite gives the files beside it the same mode.
  if (there === undefined) closeSync(openSync(file, "a", 0o600));
  else if ((there.mode & 0o077) !== 0) chmodSync(file, 0o600);
}

interface Connection {
  database: DatabaseSync;
  run: (sql: string, values: readonly Value[]) => unknown[];
}

function connect(file: string, clock: Clock): Connection {
  const database = new DatabaseSync(file, { timeout: 5 });
  try {
    database.function("now_ms", () => clock.now());
    // A commit does not wait for the disk, and the process does not stand still meanwhile: `write` waits before it answers.
    // What a sudden end of the machine then takes away was not answered yet. https://www.sqlite.org/wal.html#performance_considerations
    database.exec("PRAGMA synchronous = NORMAL");
    // A container's root may be read-only, with no other place for temporary files.
    database.exec("PRAGMA temp_store = MEMORY");
  } catch (error) {
    database.close();
    throw error;
  }
  const prepared = new Map<string, StatementSync>();
  return {
    database,
    run(sql, values) {
      const statement = prepared.get(sql) ?? database.prepare(sql);
      if (prepared.size < 200) prepared.set(sql, statement);
      return statement.all(...values);
    },
  };
}

function setUp({ database }: Connection, file: string): void {
  const tables = database.prepare("SELECT count(*) AS tables FROM sqlite_schema").get()?.tables;
  const owner = database.prepare("PRAGMA application_id").get()?.application_id;
  if (tables !== 0 && owner !== applicationId) {
    throw new Fault("invalid_argument", `The history ${file} is another program's database: name another file`);
  }
  const mode = database.prepare("PRAGMA journal_mode = WAL").get()?.journal_mode;
  if (mode !== "wal") {
    throw new Fault(
      "invalid_argument",
      `The history ${file} is on a file system without shared memory: use a local disk`,
    );
  }
  database.exec("PRAGMA journal_size_limit = 67108864");
}

function createDatabase(file: string, writer: Connection, reader: Connection): Database {
  let last: Promise<unknown> = Promise.resolve();
  const wal = createWal(`${file}-wal`);
  const queryOf =
    ({ run }: Connection): Query =>
    <Row>(sql: string, values: readonly Value[] = []) => {
      try {
        return Promise.resolve(run(sql, values) as Row[]);
      } catch (error) {
        return Promise.reject(sqliteFault(error, file));
      }
    };
  const query = queryOf(writer);

  async function transaction<T>(work: (query: Query) => Promise<T>): Promise<T> {
    await patiently(() => writer.database.exec("BEGIN IMMEDIATE"), file);
    try {
      const answer = await work(query);
      writer.database.exec("COMMIT");
      return answer;
    } catch (error) {
      if (writer.database.isTransaction) writer.database.exec("ROLLBACK");
      throw sqliteFault(error, file);
    }
  }

  return {
    place: file,
    schema: "",
    textType: "text",
    now: "now_ms()",
    lockFreeRows: "",
    beforeMigration: [`PRAGMA application_id = ${applicationId}`],
    read: <Row>(sql: string, values?: readonly Value[]) =>
      patiently(() => reader.run(sql, values ?? []), file) as Promise<Row[]>,
    write(work) {
      // One at a time: a transaction is open over several turns of the microtask queue.
      const committed = last.then(() => transaction(work));
      last = committed.catch(() => undefined);
      return committed.then(async (answer) => {
        await wal.sync();
        return answer;
      });
    },
    async stop() {
      await last;
      await wal.close();
      reader.database.close();
      writer.database.close();
    },
  };
}

/** The log that SQLite writes ahead. As long as a connection is open it is the same file; SQLite has no locks on it. */
function createWal(file: string): { sync(): Promise<void>; close(): Promise<void> } {
  let opened: Promise<FileHandle> | undefined;
  const syncing = new Set<Promise<void>>();
  const openFile = async () => {
    // That there is such a file has to survive as well.
    await using folder = await open(dirname(file), "r");
    await folder.sync();
    return open(file, "r+");
  };
  return {
    /** Ends when all that was committed before is on the disk. */
    async sync() {
      opened ??= openFile().catch((error: unknown) => {
        opened = undefined;
        throw error;
      });
      const synced = opened.then((handle) => handle.datasync());
      syncing.add(synced);
      try {
        await synced;
      } catch (error) {
        const why = describeErrno(error)?.text ?? "the disk does not say why";
        const known = "it is not known whether what was written last is there; look at the disk";
        throw new Fault(
          "unavailable",
          `The history ${file} could not be brought to the disk (${why}): ${known}`,
          error,
        );
      } finally {
        syncing.delete(synced);
      }
    },
    async close() {
      await Promise.allSettled(syncing);
      const [handle] = await Promise.allSettled([opened]);
      if (handle?.status === "fulfilled") await handle.value?.close();
    },
  };
}

/** Tries again while another process holds the file. SQLite's own waiting would stop the whole process meanwhile. */
async function patiently<T>(work: () => T, file: string): Promise<T> {
  const started = systemClock.monotonic();
  for (;;) {
    try {
      return work();
    } catch (error) {
      if (!isLocked(error) || systemClock.monotonic() - started >= patience) throw sqliteFault(error, file);
      await sleep(systemClock, 10);
    }
  }
}

// https://www.sqlite.org/rescode.html: the low byte of errcode.
const results: Record<number, { code: FaultCode; problem: string }> = {
  3: { code: "unavailable", problem: "may not be read and written by this user: change its owner or its mode" },
  5: { code: "unavailable", problem: "is locked by another process: end that one, or wait until it is done" },
  6: { code: "unavailable", problem: "is locked by another process: end that one, or wait until it is done" },
  8: { code: "unavailable", problem: "cannot be written: make the file, its folder and the file system writable" },
  10: {
    code: "unavailable",
    problem: "cannot be read or written: look at its disk, its quota and the file size limit",
  },
  11: { code: "unavailable", problem: "is damaged: put a backup in its place, or move it away to begin with none" },
  13: { code: "unavailable", problem: "cannot grow, as its disk is full: make room, or move it to another disk" },
  14: {
    code: "unavailable",
    problem: "cannot be opened: this user must be able to write it and its folder, on a file system that is writable",
  },
  18: { code: "invalid_argument", problem: "cannot take something so large: make it smaller" },
  26: { code: "unavailable", problem: "is no SQLite database: name another file" },
};

function isLocked(error: unknown): boolean {
  return [5, 6].includes(resultOf(error) ?? 0);
}

function resultOf(error: unknown): number | undefined {
  if (!(error instanceof Error && "errcode" in error && typeof error.errcode === "number")) return undefined;
  return error.errcode & 0xff;
}

function sqliteFault(error: unknown, file: string): Fault {
  if (error instanceof Fault) return error;
  const known = results[resultOf(error) ?? -1];
  if (known) return new Fault(known.code, `The history ${file} ${known.problem}`, error);
  const errno = errnoOf(error) === "EEXIST" ? "a part of its path is no folder" : describeErrno(error)?.text;
  if (errno !== undefined) return new Fault("unavailable", `The history ${file} cannot be used: ${errno}`, error);
  return Fault.from(error, `The history ${file}`);
}

/** When it is being opened, somebody is there who can change what is wrong. */
function atOpen(fault: Fault): Fault {
  const passes = isLocked(fault.cause) || resultOf(fault.cause) === 13 || fault.code !== "unavailable";
  return passes ? fault : new Fault("invalid_argument", fault.message, fault.cause);
}
