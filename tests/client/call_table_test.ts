import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { CallTable } from "../../src/client/call_table.ts";
import type { Entry } from "../../src/client/call_table.ts";
import { IdSource } from "../../src/ids.ts";

interface Call extends Entry<Call> {
  readonly number: number;
}

const call = (id: string, number = 0): Call => ({ id, next: undefined, number });
const idsOf = (table: CallTable<Call>) => table.entries().map(({ id }) => id).toSorted();

describe("a table of calls", () => {
  it("gives each call by its id, and takes it out once", () => {
    const table = new CallTable<Call>();
    const [one, two] = [call("one"), call("two")];
    table.add(one);
    table.add(two);
    assert.equal(table.get("one"), one);
    assert.equal(table.take("one"), one);
    assert.equal(table.take("one"), undefined);
    assert.equal(table.get("one"), undefined);
    assert.equal(table.take("two"), two);
    assert.equal(table.size, 0);
    assert.equal(table.take("nobody's"), undefined);
  });

  it("tells apart ids that begin alike, are empty, short, long or odd", () => {
    const ids = ["", "0", "00", "00000000", "000000001", "000000002", "é🐰", "x".repeat(10_000), "__proto__"];
    const table = new CallTable<Call>();
    ids.forEach((id, number) => table.add(call(id, number)));
    assert.deepEqual(idsOf(table), ids.toSorted());
    // From the middle of a chain, its end, and its start.
    for (const number of [5, 4, 3, 0, 8, 7, 6, 2, 1]) assert.equal(table.take(ids[number]!)?.number, number);
    assert.deepEqual(table.entries(), []);
  });

  it("leaves a call that was taken out with nothing of the others", () => {
    const table = new CallTable<Call>();
    const calls = ["00000000a", "00000000b", "00000000c"].map((id) => call(id));
    for (const each of calls) table.add(each);
    for (const each of calls) assert.equal(table.take(each.id)?.next, undefined);
  });

  it("does as a Map does, through a hundred thousand comings and goings of up to thousands at once", () => {
    const ids = new IdSource();
    const table = new CallTable<Call>();
    const map = new Map<string, Call>();
    // A linear congruential generator, so that each run is the same but for the ids.
    let state = 7;
    const random = (limit: number) => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) % limit;
    let most = 0;
    for (let step = 0; step < 100_000; step++) {
      const isGrowing = Math.floor(step / 10_000) % 2 === 0;
      if (random(10) < (isGrowing ? 8 : 1)) {
        const added = call(ids.next(), step);
        table.add(added);
        map.set(added.id, added);
      } else {
        const [id = "none"] = map.keys();
        assert.equal(table.get(id), map.get(id));
        assert.equal(table.take(id), map.get(id));
        map.delete(id);
      }
      most = Math.max(most, map.size);
      assert.equal(table.size, map.size);
    }
    assert.ok(most > 4_096);
    assert.deepEqual(idsOf(table), [...map.keys()].toSorted());
    for (const id of map.keys()) table.take(id);
    assert.equal(table.size, 0);
    table.add(call("again"));
    assert.deepEqual(idsOf(table), ["again"]);
  });
});
