import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { Confirms } from "../../src/transport/confirms.ts";
import type { Confirm } from "../../src/transport/confirms.ts";

const confirm = (messageId?: string): Confirm => ({
  messageId,
  resolve: () => {},
  reject: () => {},
  returned: false,
});

/** Confirms with so many messages, named by their tags. */
function filled(count: number): Confirms {
  const confirms = new Confirms();
  for (let tag = 1; tag <= count; tag++) confirms.add(confirm(`${tag}`));
  return confirms;
}

const names = (taken: readonly Confirm[]) => taken.map(({ messageId }) => messageId);

describe("confirms", () => {
  it("gives each message by its tag once, in any order", () => {
    const confirms = filled(4);
    for (const tag of [2, 1, 4, 3]) {
      assert.equal(confirms.take(tag)?.messageId, `${tag}`);
      assert.equal(confirms.take(tag), undefined);
    }
    assert.equal(confirms.size, 0);
    confirms.add(confirm("5"));
    assert.equal(confirms.take(5)?.messageId, "5");
  });

  it("knows no tag of none of its messages", () => {
    const confirms = filled(2);
    for (const tag of [0, 3, -1, Infinity, NaN, 1.5]) assert.equal(confirms.take(tag), undefined);
    assert.equal(confirms.size, 2);
    assert.deepEqual(confirms.takeUpTo(0), []);
  });

  it("gives all up to a tag that are left, and all", () => {
    const confirms = filled(6);
    confirms.take(2);
    assert.deepEqual(names(confirms.takeUpTo(4)), ["1", "3", "4"]);
    assert.deepEqual(names(confirms.takeUpTo(4)), []);
    assert.deepEqual(names(confirms.takeAll()), ["5", "6"]);
    assert.deepEqual(names(confirms.takeUpTo(1_000)), []);
    confirms.add(confirm("7"));
    assert.deepEqual(names(confirms.takeUpTo(7)), ["7"]);
  });

  it("finds a message by its id until it has come back", () => {
    const confirms = filled(1);
    for (let twin = 0; twin < 2; twin++) confirms.add(confirm("twin"));
    for (const tag of [2, 3]) {
      const found = confirms.unreturned("twin")!;
      found.returned = true;
      assert.equal(confirms.take(tag), found);
    }
    assert.equal(confirms.unreturned("twin"), undefined);
  });

  it("keeps its count while one of the first is late, and thousands come and go", () => {
    const confirms = filled(1);
    for (let tag = 2; tag <= 10_000; tag++) {
      confirms.add(confirm(`${tag}`));
      assert.equal(confirms.take(tag)?.messageId, `${tag}`);
    }
    assert.equal(confirms.size, 1);
    assert.equal(confirms.take(1)?.messageId, "1");
    confirms.add(confirm("next"));
    assert.equal(confirms.take(10_001)?.messageId, "next");
  });
});
