import type { Metric, Registry } from "@prometheus-io/client";

// What each request counts. The library's own counting looks labels up and checks values, several microseconds for the dozen
// counts of a request; here a count is an addition, and the library sees it when it is read.

/** A count that has not been added to its series yet. */
export interface Gathered {
  count: number;
}

/** Counts on their way into series of counters and gauges. */
export class GatheredCounts {
  readonly #all = new Map<Gathered, { inc(value: number): void }>();

  of(series: { inc(value: number): void }): Gathered {
    const gathered = { count: 0 };
    this.#all.set(gathered, series);
    return gathered;
  }

  /** For a series that is gone. */
  drop(gathered: Gathered): void {
    this.#all.delete(gathered);
  }

  /** To be called before the series are read. */
  add(): void {
    for (const [gathered, series] of this.#all) {
      if (gathered.count === 0) continue;
      series.inc(gathered.count);
      gathered.count = 0;
    }
  }
}

/** A histogram without labels that the registry reads like one of its own. */
export class PlainHistogram {
  readonly name: string;
  readonly help: string;
  readonly type = "histogram";
  readonly aggregator = "sum";
  readonly #bounds: readonly number[];
  /** By bucket, not yet added up; the last is for what is above all bounds. */
  readonly #counts: number[];
  #sum = 0;

  constructor(name: string, help: string, bounds: readonly number[]) {
    this.name = name;
    this.help = help;
    this.#bounds = bounds;
    this.#counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    let bucket = 0;
    while (bucket < this.#bounds.length && value > (this.#bounds[bucket] ?? 0)) bucket += 1;
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#sum += value;
  }

  register(registry: Registry): void {
    // All that a registry asks of a metric is its name and get().
    registry.registerMetric(this as unknown as Metric<string>);
  }

  get(): Promise<unknown> {
    const { name, help, type, aggregator } = this;
    let count = 0;
    const buckets = this.#counts.map((more, index) => {
      count += more;
      return { metricName: `${name}_bucket`, labels: { le: this.#bounds[index] ?? "+Inf" }, value: count };
    });
    const values = [
      ...buckets,
      { metricName: `${name}_sum`, labels: {}, value: this.#sum },
      { metricName: `${name}_count`, labels: {}, value: count },
    ];
    return Promise.resolve({ name, help, type, aggregator, values });
  }
}
