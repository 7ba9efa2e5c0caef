import { describeErrno, errnoOf, Fault, type FaultCode, type Log, type Secret } from "@kube-connector/core";
import { Client, DatabaseError, Pool, type PoolClient, type PoolConfig } from "pg";
import type { Database, Query, Value } from "./database.ts";
import { openSqlStore } from "./sql-store.ts";
import type { Store } from "./store.ts";

export interface PostgresOptions {
  /** `postgres://user:password@host:port/database?sslmode=...`; a unix socket's folder as host, percent-encoded. */
  url: Secret;
  log: Log;
}

/** Where our tables are; made when it is not there. */
const schema = "kube_connector_jobs";

const mostConnections = 4;

/** Milliseconds. */
const connectTimeout = 10_000;
const answerTimeout = 60_000;

/**
 * The history in a PostgreSQL database (13 or newer), which several machines may share. Connects again by itself when the
 * database was away. To another host it speaks TLS and verifies it, unless the URL says `sslmode=disable`. Rejects with
 * `invalid_argument` when the URL, the user or the rights have to be changed.
 */
export async function openPostgresStore(options: PostgresOptions): Promise<Store> {
  const database = connect(options);
  try {
    const store = await openSqlStore(database);
    options.log.info("The history is open", { address: database.place });
    return store;
  } catch (error) {
    await database.stop();
    throw error instanceof Fault ? atOpen(error) : error;
  }
}

/** Checks the URL; whatever is wrong with it, no error of the parser goes further, as it may hold the password. */
function parseUrl(url: Secret): { place: string; config: PoolConfig } {
  const problem = (text: string) => new Fault("invalid_argument", `The URL of the history's database ${text}`);
  const form = "write it as postgres://user:password@host:port/database, with %-escapes in the password";
  // One @ at most, and before the path: otherwise a part of the password would be taken for the host or the database.
  if (!/^postgres(ql)?:\/\/([^/?#@]*@)?[^@]*$/.test(url.reveal())) throw problem(`cannot be read: ${form}`);
  const config: PoolConfig = { connectionString: url.reveal() };
  let parsed: Client;
  try {
    parsed = new Client(config);
  } catch (error) {
    const errno = describeErrno(error)?.text;
    throw problem(
      errno === undefined ? `cannot be read: ${form}` : `names a certificate or key file that cannot be read: ${errno}`,
    );
  }
  const { host, port, database } = parsed;
  const local = host.startsWith("/") || ["localhost", "127.0.0.1", "::1"].includes(host);
  const place = `postgres://${host.startsWith("/") ? host : `${host}:${port}`}/${database ?? ""}`;
  const sslGiven = /[?&](sslmode|ssl)=/.test(url.reveal());
  return { place, config: { ...config, ...(!local && !sslGiven && { ssl: true }) } };
}

function connect({ url, log }: PostgresOptions): Database {
  const { place, config } = parseUrl(url);
  const pool = new Pool({
    ...config,
    max: mostConnections,
    application_name: "kube-connector jobs",
    connectionTimeoutMillis: connectTimeout,
    query_timeout: answerTimeout,
    keepAlive: true,
    // A commit that the server acknowledges is on its disk, whatever it was set up to do.
    // oxlint-disable-next-line typescript/no-misused-promises -- pg-pool waits for it; its types do not say so
    onConnect: (client) =>
      client
        .query(
          "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        )
        .then(() => undefined),
  });
  // A connection that breaks between two queries of a transaction tells it here first, and then to the next query.
  pool.on("connect", (client) => client.on("error", () => undefined));
  pool.on("error", (error) => log.warn("A connection to the history's database broke", { address: place, error }));

  const queryOf =
    (client: PoolClient): Query =>
    async <Row>(sql: string, values: readonly Value[] = []) => {
      let count = 0;
      const text = sql.replaceAll("?", () => `$${(count += 1)}`);
      try {
        const { rows } = await client.query({ text, values: [...values] });
        return rows as Row[];
      } catch (error) {
        throw postgresFault(error, place);
      }
    };

  async function transaction<T>(client: PoolClient, work: (query: Query) => Promise<T>): Promise<T> {
    const query = queryOf(client);
    let broken = false;
    let committing = false;
    try {
      await query("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");
      const answer = await work(query);
      committing = true;
      await query("COMMIT");
      return answer;
    } catch (error) {
      broken = error instanceof Fault && isBroken(error.cause);
      if (!broken && !committing) await query("ROLLBACK").catch(() => (broken = true));
      if (!broken || !committing) throw error;
      const unknown = `The history ${place} broke off in a commit, so it is not known whether it was kept: read it again`;
      throw new Fault("unavailable", unknown, new Committing("in a commit", { cause: error }));
    } finally {
      client.release(broken);
    }
  }

  async function lone<T>(client: PoolClient, work: (query: Query) => Promise<T>): Promise<T> {
    let broken = false;
    try {
      return await work(queryOf(client));
    } catch (error) {
      broken = error instanceof Fault && isBroken(error.cause);
      throw error;
    } finally {
      client.release(broken);
    }
  }

  async function persistently<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt += 1) {
      const client = await pool.connect().catch((error: unknown) => {
        throw postgresFault(error, place);
      });
      try {
        return await work(client);
      } catch (error) {
        // All of the pool's connections may have died.
        if (attempt > mostConnections || !isPassing(error)) throw error;
      }
    }
  }

  return {
    place,
    schema: `${schema}.`,
    textType: 'text COLLATE "C"',
    now: "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
    lockFreeRows: " FOR UPDATE SKIP LOCKED",
    beforeMigration: [
      "SELECT pg_advisory_xact_lock(7089231045531)",
      `DO $$ BEGIN IF to_regnamespace('${schema}') IS NULL THEN CREATE SCHEMA ${schema}; END IF; END $$`,
    ],
    read: <Row>(sql: string, values?: readonly Value[]) =>
      persistently((client) => lone(client, (query) => query<Row>(sql, values))),
    write: (work) => persistently((client) => transaction(client, work)),
    stop: () => pool.end(),
  };
}

class Committing extends Error {}

/** It is worth while to begin anew: another transaction was in the way, or a connection had died while it was idle. */
function isPassing(error: unknown): boolean {
  const cause = error instanceof Fault ? error.cause : undefined;
  if (["40001", "40P01"].includes(stateOf(cause) ?? "")) return true;
  return isBroken(cause) && !(cause instanceof Error && /timeout/i.test(cause.message));
}

function stateOf(error: unknown): string | undefined {
  return error instanceof DatabaseError ? error.code : undefined;
}

/** The connection is of no use any more, and what was not committed is gone with it. */
function isBroken(cause: unknown): boolean {
  if (!(cause instanceof Error) || cause instanceof Committing) return false;
  const state = stateOf(cause);
  return state === undefined || /^(08|57P0[1-5])/.test(state);
}

// https://www.postgresql.org/docs/current/errcodes-appendix.html, the longest prefix counts.
const states: Record<string, { code: FaultCode; problem: string }> = {
  "08": { code: "unavailable", problem: "cannot be reached: see that it runs" },
  "22": { code: "invalid_argument", problem: "cannot take a text or number that it was given" },
  "25006": { code: "unavailable", problem: "is read-only: name the primary server, not a standby" },
  "28": { code: "unavailable", problem: "refuses the user or the password: put the right ones in the URL" },
  "3D": { code: "unavailable", problem: "is not there: create it, or name another one in the URL" },
  "40": { code: "unavailable", problem: "was asked for the same rows by too many at once: try again" },
  "42501": {
    code: "unavailable",
    problem: `does not give this user the rights it needs: let it own the schema ${schema}, or CREATE on the database`,
  },
  "53100": { code: "unavailable", problem: "has a full disk: make room there" },
  "53200": { code: "unavailable", problem: "is out of memory" },
  "53300": { code: "unavailable", problem: "has too many connections: raise max_connections, or end others" },
  "54": { code: "invalid_argument", problem: "cannot take something so large: make it smaller" },
  "57": { code: "unavailable", problem: "is stopping, starting or was told to end this: see that it runs" },
  "58": { code: "unavailable", problem: "cannot read or write its files: see its log" },
  XX: { code: "unavailable", problem: "has damaged files or failed by itself: see its log" },
};

function postgresFault(error: unknown, place: string): Fault {
  if (error instanceof Fault) return error;
  const state = stateOf(error);
  if (state !== undefined) {
    const known = states[state] ?? states[state.slice(0, 2)];
    if (known) return new Fault(known.code, `The history ${place} ${known.problem}`, error);
    return Fault.from(error, `The history ${place}`);
  }
  const why = describeErrno(error)?.text ?? wordsFor(error);
  return new Fault("unavailable", `The history ${place} cannot be reached: ${why}`, error);
}

/** What pg and TLS say, in words; their texts hold no password, but they are theirs. */
function wordsFor(error: unknown): string {
  const text = error instanceof Error ? error.message : "";
  const code = errnoOf(error) ?? "";
  if (/does not support SSL/.test(text))
    return "it does not speak TLS; put sslmode=disable in the URL if that is meant";
  if (/CERT|SELF_SIGNED|TLS|SSL/.test(code)) {
    return "its certificate is not trusted; name its CA with sslrootcert=FILE in the URL";
  }
  if (/SASL|password must be/.test(text)) return "the URL has no password, or the server cannot prove that it knows it";
  if (/timeout/i.test(text)) return "no answer in time";
  return "the connection broke";
}

/** When it is being opened, somebody is there who can change what is wrong. */
function atOpen(fault: Fault): Fault {
  const state = stateOf(fault.cause) ?? "";
  const text = fault.cause instanceof Error ? fault.cause.message : "";
  const theirs = /^(28|3D|42501|25006)/.test(state) || /does not support SSL|SASL|password must be/.test(text);
  return theirs ? new Fault("invalid_argument", fault.message, fault.cause) : fault;
}
