import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { WriteBuffer } from "../../src/transport/write_buffer.ts";

const SLAB = 65_536;

/** A buffer with what it wrote: the writes as they were handed over, and copies made at that moment. */
function recorded() {
  const writes: Uint8Array[] = [];
  const copies: Uint8Array[] = [];
  const buffer = new WriteBuffer((bytes) => {
    writes.push(bytes);
    copies.push(bytes.slice());
  });
  return { buffer, writes, copies };
}

function joined(parts: readonly Uint8Array[]): number[] {
  return parts.flatMap((part) => [...part]);
}

/** Bytes that differ from those of another seed. */
function bytes(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 31 + seed * 17) % 251);
}

/** Lets microtasks run. */
async function microtasks(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await undefined;
}

describe("a write buffer", () => {
  it("hands on what is appended in one turn as one write", async () => {
    const { buffer, writes } = recorded();
    buffer.append(Uint8Array.of(1));
    buffer.append(Uint8Array.of(2, 3));
    assert.equal(writes.length, 0);
    await microtasks();
    assert.deepEqual(writes, [Uint8Array.of(1, 2, 3)]);
  });

  it("hands on what a microtask of the same turn appends before the flush with the rest", async () => {
    const { buffer, writes } = recorded();
    queueMicrotask(() => buffer.append(Uint8Array.of(2)));
    buffer.append(Uint8Array.of(1));
    await microtasks();
    assert.deepEqual(writes, [Uint8Array.of(1, 2)]);
  });

  it("hands on each turn by itself", async () => {
    const { buffer, writes } = recorded();
    for (let turn = 1; turn <= 3; turn++) {
      buffer.append(Uint8Array.of(turn));
      await microtasks();
    }
    assert.deepEqual(writes, [Uint8Array.of(1), Uint8Array.of(2), Uint8Array.of(3)]);
  });

  it("hands on at once when it is flushed, and nothing twice", async () => {
    const { buffer, writes } = recorded();
    buffer.append(Uint8Array.of(1));
    buffer.flush();
    assert.deepEqual(writes, [Uint8Array.of(1)]);
    buffer.flush();
    await microtasks();
    assert.equal(writes.length, 1);
  });

  it("hands on what is appended after a flush of the same turn", async () => {
    const { buffer, writes } = recorded();
    buffer.append(Uint8Array.of(1));
    buffer.flush();
    buffer.append(Uint8Array.of(2));
    await microtasks();
    assert.deepEqual(writes, [Uint8Array.of(1), Uint8Array.of(2)]);
  });

  it("writes nothing for nothing", async () => {
    const { buffer, writes } = recorded();
    buffer.append(new Uint8Array(0));
    await microtasks();
    assert.equal(writes.length, 0);
  });

  it("copies, so that the caller may use its bytes again at once", async () => {
    const { buffer, writes } = recorded();
    const own = Uint8Array.of(1, 2, 3);
    buffer.append(own);
    own.fill(9);
    await microtasks();
    assert.deepEqual(writes, [Uint8Array.of(1, 2, 3)]);
  });

  it("takes what is larger than its slab, alone and after other bytes", async () => {
    const { buffer, writes } = recorded();
    const [small, large] = [bytes(10, 1), bytes(3 * SLAB + 1, 2)];
    buffer.append(small);
    buffer.append(large);
    buffer.append(small);
    await microtasks();
    assert.equal(writes.length, 1);
    assert.deepEqual(joined(writes), joined([small, large, small]));
    buffer.append(large);
    await microtasks();
    assert.deepEqual(writes[1], large);
  });

  for (const length of [SLAB - 1, SLAB, SLAB + 1]) {
    it(`takes ${length} bytes, and more in the same turn and in the next one`, async () => {
      const { buffer, writes } = recorded();
      const parts = [bytes(length, 1), bytes(2, 2), bytes(length, 3)];
      buffer.append(parts[0]!);
      buffer.append(parts[1]!);
      await microtasks();
      buffer.append(parts[2]!);
      await microtasks();
      assert.equal(writes.length, 2);
      assert.deepEqual(joined(writes), joined(parts));
    });
  }

  it("never changes bytes that it has handed on, since the socket may still be writing them", async () => {
    const { buffer, writes, copies } = recorded();
    // Enough for the slab to be filled, and taken anew, many times.
    for (let turn = 0; turn < 60; turn++) {
      for (let part = 0; part < 3; part++) buffer.append(bytes(1_000 + 977 * turn % 20_000, turn + part));
      await microtasks();
    }
    assert.equal(writes.length, 60);
    assert.deepEqual(writes, copies);
  });

  it("keeps no large slab when the large message has left", async () => {
    const { buffer, writes } = recorded();
    buffer.append(bytes(10 * SLAB, 1));
    await microtasks();
    buffer.append(Uint8Array.of(1));
    await microtasks();
    assert.equal(writes[1]!.buffer.byteLength, SLAB);
  });

  it("keeps the order and every byte of appends and flushes at random", async () => {
    // A linear congruential generator, so that each run is the same.
    let state = 42;
    const random = (limit: number) => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) % limit;
    const { buffer, copies } = recorded();
    const appended: Uint8Array[] = [];
    for (let step = 0; step < 800; step++) {
      const part = bytes(random(50) === 0 ? random(2 * SLAB) : random(300), step);
      appended.push(part);
      buffer.append(part);
      const next = random(10);
      if (next === 0) buffer.flush();
      else if (next < 4) await microtasks();
    }
    await microtasks();
    const size = (parts: readonly Uint8Array[]) => parts.reduce((sum, part) => sum + part.byteLength, 0);
    assert.equal(size(copies), size(appended));
    assert.ok(joinedEqual(appended, copies));
  });
});

/** Compares two lists of parts as streams of bytes, without an assertion for every byte. */
function joinedEqual(first: readonly Uint8Array[], second: readonly Uint8Array[]): boolean {
  const other = second.flatMap((part) => [...part]);
  let at = 0;
  return first.every((part) => part.every((byte) => byte === other[at++]));
}
