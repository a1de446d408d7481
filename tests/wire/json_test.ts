import assert from "node:assert/strict";
import fc from "fast-check";
import { describe, it } from "@std/testing/bdd";
import { NuropbMessageError, NuropbValidationError } from "../../src/errors.ts";
import { MAX_DEPTH, parse, stringify } from "../../src/wire/json.ts";
import { bytesOf } from "../../src/message.ts";

const read = (text: string) => parse(bytesOf(text));

function nested(levels: number, bottom: unknown = 1): unknown {
  let value = bottom;
  for (let level = 0; level < levels; level++) value = [value];
  return value;
}

describe("JSON that is written", () => {
  it("reads a text as its bytes, with a byte order mark or without", () => {
    for (const text of ['{"a":"é🐰"}', '\ufeff{"a":"é🐰"}']) {
      assert.deepEqual(parse(text), { a: "é🐰" });
      assert.deepEqual(parse(bytesOf(text)), parse(text));
    }
  });

  it("is what the language itself writes, for all that JSON can carry", () => {
    fc.assert(fc.property(fc.jsonValue({ maxDepth: 8 }), (value) => {
      assert.equal(stringify("value", value), JSON.stringify(value));
    }));
  });

  it("comes back as it was", () => {
    fc.assert(fc.property(fc.jsonValue({ maxDepth: 8 }), (value) => {
      assert.deepEqual(read(stringify("value", value)), JSON.parse(JSON.stringify(value)));
    }));
  });

  it("has null for what has no value", () => {
    assert.equal(stringify("value", undefined), "null");
  });

  it("is refused with the path and the value, wherever the fault is", () => {
    const path = fc.array(fc.oneof(fc.nat(3), fc.stringMatching(/^[a-z]{1,5}$/)), { maxLength: 6 });
    const fault = fc.constantFrom<[unknown, string]>([5n, "5n"], [NaN, "NaN"], [() => {}, "a function"], [
      Symbol("s"),
      "Symbol(s)",
    ]);
    fc.assert(fc.property(path, fault, (keys, [bad, shown]) => {
      const value = keys.reduceRight<unknown>(
        (inner, key) =>
          typeof key === "number"
            ? Object.assign(new Array(key).fill(0), { [key]: inner })
            : { [key]: inner },
        bad,
      );
      const text = keys.map((key) => typeof key === "number" ? `[${key}]` : `.${key}`).join("");
      assert.throws(() => stringify("value", value), (error: unknown) => {
        assert.ok(error instanceof NuropbValidationError);
        assert.equal(error.code, "INVALID_ARGUMENT");
        assert.equal(error.message, `value${text} must be something that JSON can carry, but is ${shown}`);
        return true;
      });
    }));
  });
});

describe("JSON that is read", () => {
  it("is what the language itself reads", () => {
    fc.assert(fc.property(fc.json({ maxDepth: 8 }), (text) => {
      assert.deepEqual(read(text), JSON.parse(text));
    }));
  });

  it("may have Python's NaN and infinities, and texts that look like them", () => {
    const text =
      `{"a": NaN, "b": [-Infinity, Infinity, -1], "NaN": "NaN, \\"Infinity", "c": "\\\\", "d": {"e": NaN}}`;
    assert.deepEqual(read(text), {
      a: NaN,
      b: [-Infinity, Infinity, -1],
      NaN: 'NaN, "Infinity',
      c: "\\",
      d: { e: NaN },
    });
  });

  for (const word of ["NaN", "Infinity", "-Infinity"]) {
    it(`may be ${word} alone`, () => assert.ok(Object.is(read(word), Number(word))));
  }

  it("may hold large texts beside Python's words", () => {
    const long = "x".repeat(15_000_000);
    assert.equal((read(`{"a": NaN, "b": "${long}"}`) as { b: string }).b.length, long.length);
  });

  const broken = [
    "",
    " ",
    "{",
    "nan",
    "-NaN",
    "+Infinity",
    "--Infinity",
    "NaN1",
    "1NaN",
    "aNaN",
    "NaN NaN",
    "[NaN,]",
    '{"a" NaN}',
    "{NaN: 1}",
    '{"a": 1, -Infinity: 2}',
    '"NaN',
    "'NaN'",
    "undefined",
    "[1] NaN",
  ];
  for (const text of broken) {
    it(`is refused when it is ${JSON.stringify(text)}`, () => {
      assert.throws(
        () => read(text),
        (error) => error instanceof NuropbMessageError && error.code === "INVALID_MESSAGE",
      );
    });
  }

  it("is refused when it is not UTF-8", () => {
    assert.throws(() => parse(new Uint8Array([0x22, 0xff, 0x22])), NuropbMessageError);
    // The first half of a surrogate pair, which UTF-8 does not know.
    assert.throws(() => parse(new Uint8Array([0x22, 0xed, 0xa0, 0x80, 0x22])), NuropbMessageError);
  });

  const exhausting: [string, string][] = [
    ["a text without an end, full of escapes", 'NaN"' + '\\"'.repeat(50_000)],
    ["quotes and backslashes", "NaN" + '"\\'.repeat(50_000)],
    ["quotes", "NaN" + '"'.repeat(100_001)],
    ["Python's words", `[${"NaN,".repeat(50_000)}NaN`],
    ["minus signs", `NaN${"-".repeat(100_000)}`],
    ["digits", `NaN ${"1".repeat(100_000)}x`],
    ["brackets", `NaN ${"[".repeat(100_000)}`],
  ];
  for (const [what, text] of exhausting) {
    it(`is refused soon when it is broken and long: ${what}`, () => {
      const started = performance.now();
      assert.throws(() => read(text), NuropbMessageError);
      const took = performance.now() - started;
      assert.ok(took < 1_000, `${Math.round(took)} ms for ${text.length} characters`);
    });
  }

  it("cannot reach a prototype, with Python's words or without", () => {
    for (const value of ["1", "NaN"]) {
      const read_ = read(`{"__proto__": {"polluted": ${value}}, "a": ${value}}`) as Record<string, unknown>;
      assert.deepEqual(Object.keys(read_), ["__proto__", "a"]);
      assert.equal(Object.getPrototypeOf(read_), Object.prototype);
      assert.equal(({} as { polluted?: unknown }).polluted, undefined);
    }
  });

  it("may be large and full of brackets, quotes and backslashes in its texts", () => {
    const texts = [
      "[".repeat(70_000),
      '"['.repeat(70_000),
      "\\".repeat(70_001),
      '\\"[{'.repeat(30_000),
      "\\\\",
    ];
    const value = { texts, more: { '"[\\': texts } };
    assert.deepEqual(parse(new TextEncoder().encode(JSON.stringify(value))), value);
    const deep = `[${JSON.stringify(texts)}, ${"[".repeat(101)}${"]".repeat(101)}]`;
    assert.throws(() => parse(new TextEncoder().encode(deep)), /nested deeper than 100 levels/);
    // A text that does not end is no JSON, and no reason to look on for ever.
    assert.throws(() => parse(new TextEncoder().encode(`["${"x[".repeat(70_000)}`)), /is not JSON/);
  });

  it("may be nested as deep as allowed, and no deeper", () => {
    assert.deepEqual(read(JSON.stringify(nested(MAX_DEPTH))), nested(MAX_DEPTH));
    for (const levels of [MAX_DEPTH + 1, 2 * MAX_DEPTH, 5_000, 200_000]) {
      const text = "[".repeat(levels) + "]".repeat(levels);
      assert.throws(() => read(text), NuropbMessageError, `${levels} levels`);
    }
    const objects = '{"a":'.repeat(MAX_DEPTH + 1) + "1" + "}".repeat(MAX_DEPTH + 1);
    assert.throws(() => read(objects), NuropbMessageError);
  });
});
