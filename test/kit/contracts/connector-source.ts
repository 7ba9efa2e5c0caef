import type { Secret } from "@kube-connector/core";
import { expect, test } from "vitest";
// oxlint-disable-next-line import/no-relative-packages -- a contract is about the room's own interface
import type { ConnectorChange, ConnectorSource } from "../../../proxy/src/connectors/source.ts";
import { type DescribedParts, resolvedParts } from "../resolved.ts";

/** One source under test and the world that feeds it. */
export interface SourceUnderTest {
  source: ConnectorSource;
  /** Writes the entries of one place (a folder, a Secret) as its real writer does: at once. */
  put: (place: string, entries: Readonly<Record<string, Secret>>) => Promise<void>;
  remove: (place: string) => Promise<void>;
}

/** The source shows a change within this many milliseconds, and takes bad content away within it too. */
const soon = 3_000;

/**
 * What every source of connectors does: it is synced after its first full reading; each version is one immutable object
 * with all entries of the same moment; content that cannot be used takes the connector away; changes are told once.
 */
export function connectorSourceContract(
  start: (before: Record<string, Record<string, Secret>>) => Promise<SourceUnderTest>,
) {
  const make = async (parts: DescribedParts) => await resolvedParts(parts);

  test("what is there at the start is served once the source is synced", async () => {
    const { source } = await start({ one: await make({ name: "prod" }), two: await make({ name: "test" }) });
    await source.synced;
    expect(source.isSynced()).toBe(true);
    expect(
      source
        .all()
        .map((connector) => connector.name)
        .sort(),
    ).toEqual(["prod", "test"]);
    expect(source.get("team-a/prod")?.token?.reveal()).toBe("stored-token");
    expect(source.get("team-a/none")).toBeUndefined();
  });

  test("a source with nothing in it is synced and serves nothing", async () => {
    const { source } = await start({});
    await source.synced;
    expect(source.all()).toEqual([]);
  });

  test("a connector that comes, changes and goes is told with its versions before and after", async () => {
    const { source, put, remove } = await start({});
    await source.synced;
    const changes: ConnectorChange[] = [];
    source.subscribe((change) => changes.push(change));
    await put("one", await make({ name: "prod", token: "first" }));
    await expect.poll(() => source.get("team-a/prod")?.token?.reveal(), { timeout: soon }).toBe("first");
    const first = source.get("team-a/prod");
    await put("one", await make({ name: "prod", token: "second" }));
    await expect.poll(() => source.get("team-a/prod")?.token?.reveal(), { timeout: soon }).toBe("second");
    expect(first?.token?.reveal()).toBe("first");
    await remove("one");
    await expect.poll(() => source.get("team-a/prod"), { timeout: soon }).toBeUndefined();
    const told = changes.map(({ before, after }) => [before?.token?.reveal(), after?.token?.reveal()]);
    expect(told).toEqual([
      [undefined, "first"],
      ["first", "second"],
      ["second", undefined],
    ]);
  });

  test("a listener that ended its subscription hears nothing more", async () => {
    const { source, put } = await start({});
    await source.synced;
    let heard = 0;
    source.subscribe(() => (heard += 1))();
    await put("one", await make({ name: "prod" }));
    await expect.poll(() => source.get("team-a/prod"), { timeout: soon }).toBeDefined();
    expect(heard).toBe(0);
  });

  test("the same content written again is no change", async () => {
    const entries = await make({ name: "prod" });
    const { source, put } = await start({ one: entries });
    await source.synced;
    const before = source.get("team-a/prod");
    let heard = 0;
    source.subscribe(() => (heard += 1));
    await put("one", entries);
    await put("two", await make({ name: "other" }));
    await expect.poll(() => source.get("team-a/other"), { timeout: soon }).toBeDefined();
    expect(heard).toBe(1);
    expect(source.get("team-a/prod")).toBe(before);
  });

  test("a name used again with another uid is another connector", async () => {
    const { source, put } = await start({ one: await make({ name: "prod", uid: "uid-1" }) });
    await source.synced;
    await put("one", await make({ name: "prod", uid: "uid-2" }));
    await expect.poll(() => source.get("team-a/prod")?.uid, { timeout: soon }).toBe("uid-2");
  });

  test("content that cannot be used is not served, and mended content is served again", async () => {
    const good = await make({ name: "prod" });
    const { source, put } = await start({ one: good, bad: await make({ name: "bad", json: "{" }) });
    await source.synced;
    expect(source.all().map((connector) => connector.name)).toEqual(["prod"]);
    const other = await make({ name: "prod" });
    for (const wrong of [
      await make({ name: "prod", json: '{"namespace": "team-a"' }),
      await make({ name: "prod", more: { rules: [] } }),
      { ...good, "tls.key": other["tls.key"] as Secret },
    ]) {
      await put("one", wrong);
      await expect.poll(() => source.get("team-a/prod"), { timeout: soon }).toBeUndefined();
      await put("one", good);
      await expect.poll(() => source.get("team-a/prod"), { timeout: soon }).toBeDefined();
    }
  });

  test("two places that name the same connector contradict each other, so neither is served", async () => {
    const { source, put, remove } = await start({ one: await make({ name: "prod", token: "first" }) });
    await source.synced;
    await put("two", await make({ name: "prod", token: "second" }));
    await expect.poll(() => source.get("team-a/prod"), { timeout: soon }).toBeUndefined();
    await remove("one");
    await expect.poll(() => source.get("team-a/prod")?.token?.reveal(), { timeout: soon }).toBe("second");
  });

  test("a connector without a usable token is served with the sentence for its callers", async () => {
    const { source } = await start({ one: await make({ name: "prod", unavailable: "The Secret has no token" }) });
    await source.synced;
    expect(source.get("team-a/prod")?.unavailable).toBe("The Secret has no token");
    expect(source.get("team-a/prod")?.token).toBeUndefined();
  });
}
