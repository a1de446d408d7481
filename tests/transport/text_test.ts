import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "@std/testing/bdd";
import { readText, TextCache, writeText } from "../../src/transport/text.ts";

/** The runtime's own, which leaves out nothing. */
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();

/** Texts of sizes around that from which on the runtime reads and writes them, and of all kinds of characters. */
const texts = [
  ...[0, 1, 2, 62, 63, 64, 65, 127, 128, 255, 256, 5_000].flatMap((size) => [
    "x".repeat(size),
    `${"x".repeat(Math.max(0, size - 1))}é`,
    `é${"x".repeat(size)}`,
    `${"x".repeat(size >> 1)}🐰${"x".repeat(size >> 1)}`,
  ]),
  "\u0000",
  "\u007f\u0080\u00ff\u0100\u07ff\u0800\uffff",
  "\u{10000}\u{10ffff}",
  "é".repeat(31),
  "é".repeat(32),
  "é".repeat(63),
  "é".repeat(64),
];
/** Texts that begin with the mark of the byte order, which belongs to them. */
const marked = ["\ufeff", "\ufeffname", `\ufeff${"x".repeat(100)}`, "name\ufeff"];

/** What is no UTF-8. */
const broken: readonly (readonly number[])[] = [
  [0x80],
  [0xff],
  [0xc3],
  [0xc3, 0x28],
  [0xe2, 0x82],
  [0xf0, 0x9f, 0x90],
  [0xed, 0xa0, 0x80],
  [0xc0, 0xaf],
  [0xf5, 0x80, 0x80, 0x80],
  [0x61, 0xff, 0x62, 0xfe],
  [...Array<number>(63).fill(0x61), 0xc3],
  [...Array<number>(64).fill(0x61), 0xc3],
];

/** Bytes with others around them, which a text must not take. */
function within(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from([0xa9, 0xa9, 0xa9, ...bytes, 0xa9, 0xa9, 0xa9]).subarray(2, -2);
}

describe("a text", () => {
  it("is read as it is, of every size and kind", () => {
    for (const text of texts) {
      const bytes = encoder.encode(text);
      assert.equal(readText(within(bytes), 1, bytes.byteLength), text);
    }
  });

  it("is read with the mark of the byte order before it, since a name has to stay the same", () => {
    for (const text of marked) {
      const bytes = encoder.encode(text);
      assert.equal(readText(within(bytes), 1, bytes.byteLength), text);
      assert.equal(new TextCache().read(within(bytes), 1, bytes.byteLength), text);
    }
  });

  it("that is no UTF-8 is read with characters in place of what is none", () => {
    for (const bytes of broken.map((codes) => Uint8Array.from(codes))) {
      assert.equal(readText(within(bytes), 1, bytes.byteLength), decoder.decode(bytes));
    }
  });

  it("is refused when its bytes end before", () => {
    for (const size of [1, 10, 63, 64, 65, 1_000, 2 ** 32 - 1]) {
      const bytes = new Uint8Array(Math.min(size, 2_000) - 1).fill(0x61);
      assert.throws(() => readText(bytes, 0, size), RangeError);
      assert.throws(() => new TextCache().read(bytes, 0, size), RangeError);
    }
    assert.throws(() => readText(new Uint8Array(10), 11, 0), RangeError);
  });

  it("is written as the runtime's encoder writes it, and nothing beside it", () => {
    for (
      const text of [
        ...texts,
        ...marked,
        "\ud800",
        "x\udc00y",
        `${"x".repeat(62)}\ud83d`,
        `${"é".repeat(70)}\ud83d`,
      ]
    ) {
      const expected = encoder.encode(text);
      const bytes = new Uint8Array(expected.byteLength + 6).fill(0xaa);
      assert.equal(writeText(bytes.subarray(1), 2, text), expected.byteLength);
      assert.deepEqual(bytes.subarray(3, -3), expected);
      assert.deepEqual([...bytes.subarray(0, 3), ...bytes.subarray(-3)], Array(6).fill(0xaa));
    }
  });

  it("is written into room of just its size, and refused with a byte less", () => {
    for (const text of [...texts, "\ud800", `${"é".repeat(70)}\ud83d`]) {
      const size = encoder.encode(text).byteLength;
      assert.equal(writeText(new Uint8Array(size), 0, text), size);
      assert.equal(writeText(new Uint8Array(size + 5), 5, text), size);
      if (size > 0) assert.throws(() => writeText(new Uint8Array(size - 1), 0, text), RangeError);
      if (size > 0) assert.throws(() => writeText(new Uint8Array(size + 4), 5, text), RangeError);
    }
  });
});

describe("a cache of texts", () => {
  /** Reads both, one after the other in both orders, and again. */
  function readsBoth(first: Uint8Array, second: Uint8Array): void {
    const cache = new TextCache();
    for (const bytes of [first, second, first, first, second]) {
      const text = cache.read(bytes, 0, bytes.byteLength);
      if (text === decoder.decode(bytes)) continue;
      assert.fail(`${Buffer.from(bytes).toString("hex")} was read as ${JSON.stringify(text)}`);
    }
  }

  it("gives the texts that were asked for, however many share a place in it", () => {
    const cache = new TextCache();
    const names = Array.from(
      { length: 5_000 },
      (_, index) => `a${String(index).padStart(4, "0")}mm${index % 7}z`,
    );
    for (let round = 0; round < 3; round++) {
      for (const name of names) assert.equal(cache.read(encoder.encode(name), 0, name.length), name);
    }
  });

  it("tells texts apart that have their size and their first, middle and last bytes in common", () => {
    for (const size of [4, 5, 16, 63, 64, 65, 255]) {
      const bytes = new Uint8Array(size).fill(0x61);
      for (let at = 1; at < size - 1; at++) {
        if (at === size >> 1) continue;
        const other = Uint8Array.from(bytes);
        other[at] = 0x62;
        readsBoth(bytes, other);
      }
    }
  });

  it("gives a text only for its own bytes, not for those that its characters' codes are", () => {
    for (let first = 0x80; first <= 0xff; first++) {
      for (let second = 0x20; second <= 0xff; second++) {
        const text = String.fromCharCode(first, second);
        readsBoth(encoder.encode(text), Uint8Array.of(first, second));
      }
    }
  });

  it("tells what is no UTF-8 apart from what is", () => {
    const all = [
      ...broken.map((codes) => Uint8Array.from(codes)),
      ...texts.map((text) => encoder.encode(text)),
    ];
    const cache = new TextCache();
    for (let round = 0; round < 2; round++) {
      for (const bytes of all) {
        assert.equal(cache.read(within(bytes), 1, bytes.byteLength), decoder.decode(bytes));
      }
    }
  });

  it("keeps no hold on the bytes, which are the socket's again", () => {
    const cache = new TextCache();
    const bytes = encoder.encode("shop");
    assert.equal(cache.read(bytes, 0, 4), "shop");
    bytes.set(encoder.encode("ship"));
    assert.equal(cache.read(bytes, 0, 4), "ship");
    assert.equal(cache.read(encoder.encode("shop"), 0, 4), "shop");
  });
});
