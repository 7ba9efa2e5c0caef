import { Readable } from "node:stream";
import { type Clock, Fault, sleep } from "@kube-connector/core";
import type { Random } from "./random.ts";

// A stand-in for the kubelet's log server, as an API server shows it: times on each line, `follow`, `sinceTime` by the
// second, `previous` one back only, 400 before the start, 404 without the pod, rotation, streams that are cut anywhere.

interface LogLine {
  stamp: string;
  bytes: Buffer;
}

/** One run of a container. */
interface Life {
  lines: LogLine[];
  /** Lines before this one were rotated away. */
  from: number;
  startedAt: number;
  endedAt?: number;
  /** The node has removed the container; a kubelet says so as if that were the log. */
  removed?: boolean;
}

/** How streams are spoiled. */
export interface Spoil {
  random: Random;
  /** Share of pieces after which a stream breaks, or ends as if all was well. */
  broken: number;
  clean: number;
  /** Bytes of a piece, at most. */
  piece: number;
}

interface Query {
  container: string;
  follow?: boolean;
  previous?: boolean;
  sinceTime?: string;
}

export class LogContainer {
  readonly name: string;
  readonly init: boolean;
  readonly lives: Life[] = [];
  /** What status.state says when it does not run. */
  waiting = "PodInitializing";
  readonly #kubelet: LogKubelet;

  constructor(kubelet: LogKubelet, name: string, init: boolean) {
    this.#kubelet = kubelet;
    this.name = name;
    this.init = init;
  }

  get life(): Life {
    const life = this.lives.at(-1);
    if (life === undefined) throw new Error("the container was not started");
    return life;
  }

  start(): void {
    this.lives.push({ lines: [], from: 0, startedAt: this.#kubelet.clock.now() });
    this.#kubelet.changed();
  }

  /** One line, or the last one without its newline. */
  write(text: string | Buffer, options: { newline?: boolean; stamp?: string } = {}): void {
    const body = typeof text === "string" ? Buffer.from(text) : text;
    const bytes = (options.newline ?? true) ? Buffer.concat([body, Buffer.of(10)]) : body;
    this.life.lines.push({ stamp: options.stamp ?? this.#kubelet.stamp(), bytes });
    this.#kubelet.changed();
  }

  /** What was written so far cannot be opened any more; who follows already still gets it. */
  rotate(keep = 0): void {
    this.life.from = Math.max(0, this.life.lines.length - keep);
  }

  end(): void {
    this.life.endedAt = this.#kubelet.clock.now();
    this.#kubelet.changed();
  }
}

export class LogPod {
  readonly name: string;
  readonly uid: string;
  readonly containers: LogContainer[] = [];
  restartPolicy = "Never";
  readonly #kubelet: LogKubelet;

  constructor(kubelet: LogKubelet, name: string) {
    this.#kubelet = kubelet;
    this.name = name;
    this.uid = `uid-${name}`;
  }

  container(name: string, init = false): LogContainer {
    const made = new LogContainer(this.#kubelet, name, init);
    this.containers.push(made);
    return made;
  }

  /** The pod as the API server shows it. */
  object(reason?: string) {
    const statuses = (init: boolean) =>
      this.containers
        .filter((one) => one.init === init)
        .map((one) => {
          const life = one.lives.at(-1);
          const before = one.lives.at(-2);
          return {
            name: one.name,
            restartCount: Math.max(0, one.lives.length - 1),
            state: life === undefined ? { waiting: { reason: one.waiting } } : stateOf(life),
            lastState: before === undefined ? {} : stateOf(before),
          };
        });
    return {
      metadata: { name: this.name, uid: this.uid, namespace: "batch" },
      spec: { restartPolicy: this.restartPolicy },
      status: {
        ...(reason === undefined ? {} : { reason }),
        initContainerStatuses: statuses(true),
        containerStatuses: statuses(false),
      },
    };
  }
}

const second = (at: number) => `${new Date(at).toISOString().slice(0, 19)}Z`;

function stateOf({ startedAt, endedAt }: Life) {
  const started = second(startedAt);
  if (endedAt === undefined) return { running: { startedAt: started } };
  return { terminated: { exitCode: 0, startedAt: started, finishedAt: second(endedAt) } };
}

export class LogKubelet {
  readonly clock: Clock;
  readonly pods = new Map<string, LogPod>();
  /** Streams that were asked for, as `pod/container` with what was asked. */
  readonly asked: string[] = [];
  /** Streams that are open, and the most that ever were. */
  streams = 0;
  mostStreams = 0;
  spoil: Spoil | undefined;
  /** What the next calls are answered with instead. */
  readonly refusals: Fault[] = [];
  /** Milliseconds between a container's end and that of its stream. */
  endDelay = 0;
  #last = 0;
  #waiting: (() => void)[] = [];

  constructor(clock: Clock) {
    this.clock = clock;
  }

  pod(name: string): LogPod {
    const made = new LogPod(this, name);
    this.pods.set(name, made);
    return made;
  }

  remove(pod: LogPod): void {
    this.pods.delete(pod.name);
    this.changed();
  }

  changed(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** A time of its own for each line, in nanoseconds. */
  stamp(): string {
    const now = Math.max(Math.round(this.clock.now() * 1000), this.#last + 1);
    this.#last = now;
    const milliseconds = Math.floor(now / 1000);
    const micros = String(now % 1000).padStart(3, "0");
    return `${new Date(milliseconds).toISOString().slice(0, 23)}${micros}000Z`;
  }

  readonly open = async (_namespace: string, name: string, query: Query, signal: AbortSignal): Promise<Readable> => {
    this.asked.push(`${name}/${query.container} ${JSON.stringify({ ...query, container: undefined })}`);
    await sleep(this.clock, 1);
    const refusal = this.refusals.shift();
    if (refusal !== undefined) throw refusal;
    if (signal.aborted) throw new Fault("deadline_exceeded", "ended before an answer came");
    const pod = this.pods.get(name);
    if (pod === undefined) throw refused("not_found", 404, `pods "${name}" not found`);
    const lives = pod.containers.find((one) => one.name === query.container)?.lives ?? [];
    const life = lives.at(query.previous === true ? -2 : -1);
    if (life === undefined) {
      const what = query.previous === true ? "previous terminated container not found" : "waiting to start";
      throw refused("invalid_argument", 400, what);
    }
    const bytes = life.removed === true ? gone() : this.#send(life, pod, query, signal);
    const stream = Readable.from(bytes, { objectMode: false, highWaterMark: 65_536 });
    this.streams += 1;
    this.mostStreams = Math.max(this.mostStreams, this.streams);
    stream.once("close", () => {
      this.streams -= 1;
    });
    return stream;
  };

  async *#send(life: Life, pod: LogPod, query: Query, signal: AbortSignal): AsyncGenerator<Buffer> {
    const since = query.sinceTime?.slice(0, 19) ?? "";
    for (let next = life.from; ; ) {
      const lines: Buffer[] = [];
      for (let size = 0; next < life.lines.length && size < 65_536; next += 1) {
        const { stamp, bytes } = life.lines[next] as LogLine;
        if (stamp < since) continue;
        lines.push(Buffer.from(`${stamp} `), bytes);
        size += bytes.length;
      }
      const block = Buffer.concat(lines);
      for (let at = 0; at < block.length; ) {
        const { spoil } = this;
        const end = spoil === undefined ? block.length : at + 1 + spoil.random.number(spoil.piece);
        yield block.subarray(at, end);
        at = end;
        if (spoil?.random.chance(spoil.broken)) throw new Error("the stream was cut");
        // Once the container has ended, a clean end behind a whole line is how a log ends, and cannot be told from it.
        const looksWhole = block[at - 1] === 0x0a && life.endedAt !== undefined;
        if (!looksWhole && spoil?.random.chance(spoil.clean)) return;
      }
      if (next < life.lines.length) continue;
      if (query.follow !== true || signal.aborted) return;
      if (life.endedAt !== undefined || !this.pods.has(pod.name)) {
        await sleep(this.clock, this.endDelay);
        if (next === life.lines.length) return;
        continue;
      }
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }
}

function* gone(): Generator<Buffer> {
  yield Buffer.from("unable to retrieve container logs for containerd://64d80cdea94a");
}

export function refused(code: "not_found" | "invalid_argument" | "permission_denied", status: number, message: string) {
  return new Fault(code, message, undefined, { status, reason: "", fields: [] });
}

/** A clock on which so many milliseconds pass in each one. */
export function createFastClock(factor: number): Clock {
  const start = Date.UTC(2026, 2, 1, 10);
  const zero = performance.now();
  const passed = () => (performance.now() - zero) * factor;
  return {
    now: () => start + passed(),
    monotonic: passed,
    after(milliseconds, then) {
      const timer = setTimeout(then, milliseconds / factor);
      timer.unref();
      return () => clearTimeout(timer);
    },
  };
}
