import { Fault } from "@kube-connector/core";

/** Gathers what is asked for in one turn of the event loop, or while the last batch is being written, into one batch. */
export interface Gatherer<Item, Answer> {
  add(item: Item): Promise<Answer>;
  /** Ends once all that was added has its answer. */
  settle(): Promise<void>;
}

export interface GatherOptions<Item, Answer> {
  /** Writes a batch, all or nothing; a Fault among the answers is that item's alone. */
  write(items: readonly Item[]): Promise<readonly (Answer | Fault)[]>;
  /** Two items with one key do not go into one batch. */
  keyOf(item: Item): string;
  /** Items in a batch. */
  most: number;
}

interface Waiting<Item, Answer> {
  item: Item;
  resolve: (answer: Answer) => void;
  reject: (fault: Fault) => void;
}

export function createGatherer<Item, Answer>(options: GatherOptions<Item, Answer>): Gatherer<Item, Answer> {
  let waiting: Waiting<Item, Answer>[] = [];
  let working: Promise<void> | undefined;

  function take(): Waiting<Item, Answer>[] {
    const keys = new Set<string>();
    let count = 0;
    for (const { item } of waiting.slice(0, options.most)) {
      const key = options.keyOf(item);
      if (keys.has(key)) break;
      keys.add(key);
      count += 1;
    }
    const batch = waiting.slice(0, count);
    waiting = waiting.slice(count);
    return batch;
  }

  async function work(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    for (let batch = take(); batch.length > 0; batch = take()) {
      await settleBatch(batch);
      await new Promise((resolve) => setImmediate(resolve));
    }
    working = undefined;
  }

  async function settleBatch(batch: readonly Waiting<Item, Answer>[]): Promise<void> {
    try {
      const answers = await options.write(batch.map(({ item }) => item));
      for (const [index, { resolve, reject }] of batch.entries()) {
        const answer = answers[index] as Answer | Fault;
        if (answer instanceof Fault) reject(answer);
        else resolve(answer);
      }
    } catch (error) {
      const fault = Fault.from(error, "The history could not be written");
      // What one of them holds may be the reason, so the others are not to fail for it.
      if (batch.length > 1 && fault.code !== "unavailable") for (const one of batch) await settleBatch([one]);
      else for (const { reject } of batch) reject(fault);
    }
  }

  return {
    add: (item) =>
      new Promise((resolve, reject) => {
        waiting.push({ item, resolve, reject });
        working ??= work();
      }),
    settle: async () => {
      await working;
    },
  };
}
