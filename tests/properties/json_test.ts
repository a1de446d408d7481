import assert from "node:assert/strict";
import fc from "fast-check";
import { describe, it } from "@std/testing/bdd";
import { NuropbMessageError, NuropbValidationError } from "../../src/errors.ts";
import { MAX_DEPTH, parse, stringify, stringifyRead } from "../../src/wire/json.ts";
import { bytesOf } from "../../src/message.ts";
import { anything, damaged, damages, jsonValues, keys } from "./arbitraries.ts";
import { check, outcomeOf } from "./property.ts";

const decoder = new TextDecoder();
const both = ["number", "bigint"] as const;

/** JSON text of a value, with as much white space as JSON allows. */
const spaced = fc.tuple(jsonValues, fc.constantFrom(undefined, 1, "\t", "\r\n  ")).map(
  ([value, space]) => JSON.stringify(value, undefined, space),
);

/** What the language reads, or undefined. */
function languageReads(bytes: Uint8Array): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) };
  } catch {
    return undefined;
  }
}

describe("the reader of JSON", () => {
  it("reads what the language reads", () => {
    check(
      5_000,
      fc.property(spaced, (text) => {
        const expected = JSON.stringify(JSON.parse(text));
        assert.equal(JSON.stringify(parse(bytesOf(text))), expected);
        assert.equal(stringifyRead(parse(bytesOf(text), "bigint")).length > 0, true);
      }),
    );
  });

  it("reads and refuses what the language does, but for Python's words", () => {
    check(
      8_000,
      fc.property(spaced, damages, (text, all) => {
        const bytes = damaged(bytesOf(text), all);
        const expected = languageReads(bytes);
        const hasWords = /NaN|Infinity/.test(decoder.decode(bytes));
        for (const integers of both) {
          const { value, error } = outcomeOf(() => parse(bytes, integers), NuropbMessageError);
          if (expected === undefined) assert.ok(error !== undefined || hasWords);
          else {
            assert.equal(error, undefined);
            assert.equal(typeof value === "bigint" ? "number" : typeof value, typeof expected.value);
          }
        }
      }),
    );
  });

  it("reads Python's words wherever a value may stand, and in no text", () => {
    const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
      tree: fc.oneof(
        { depthSize: "small" },
        fc.constantFrom(NaN, Infinity, -Infinity),
        fc.oneof(fc.constantFrom("NaN", '"NaN', "\\-Infinity", "a\\"), fc.string(), fc.integer()),
        fc.array(tie("tree"), { maxLength: 4 }),
        fc.dictionary(keys, tie("tree"), { maxKeys: 4 }),
      ),
    }));
    check(
      5_000,
      fc.property(tree, fc.constantFrom(...both), (value, integers) => {
        assert.equal(pythonText(parse(bytesOf(pythonText(value)), integers)), pythonText(value));
      }),
    );
  });

  it("reads every integer exactly where that is asked for", () => {
    const integers = fc.array(fc.bigInt({ min: -(2n ** 100n), max: 2n ** 100n }), { maxLength: 5 });
    check(
      3_000,
      fc.property(integers, keys, (numbers, key) => {
        const text = `{${JSON.stringify(key)}:[${numbers.join()}]}`;
        const read = parse(bytesOf(text), "bigint") as Record<string, (number | bigint)[]>;
        assert.deepEqual(read[key]!.map(BigInt), numbers);
        assert.equal(stringifyRead(read), text);
      }),
    );
  });

  it("takes what is nested as deep as may be, and nothing deeper, whatever it is made of", () => {
    const levels = fc.oneof(fc.integer({ min: 90, max: 110 }), fc.integer({ min: 1, max: 3_000 }));
    const rest = fc.constantFrom("", " ", ",1", "]");
    check(
      2_000,
      fc.property(
        levels,
        fc.nat(),
        rest,
        fc.constantFrom("1", "NaN", `${10n ** 20n}`),
        (depth, mix, end, inner) => {
          const isArray = (level: number) => (mix >> level % 31) % 2 === 0;
          const opening = Array.from({ length: depth }, (_, level) => isArray(level) ? "[" : '{"a":');
          const closing = opening.toReversed().map((open) => open === "[" ? "]" : "}");
          const bytes = bytesOf(opening.join("") + inner + closing.join("") + end);
          for (const integers of both) {
            const { error } = outcomeOf(() => parse(bytes, integers), NuropbMessageError);
            assert.equal(error === undefined, depth <= MAX_DEPTH && end.trim() === "", `${depth} levels`);
          }
        },
      ),
    );
  });

  it("refuses a million levels, with an end or without", () => {
    const million = 1_000_000;
    const parts = fc.constantFrom("[", '{"a":', "[[1],", '[{"":');
    check(
      6,
      fc.property(
        parts,
        fc.boolean(),
        fc.constantFrom("", "NaN", "9".repeat(20)),
        (part, isClosed, inner) => {
          const closing = part.replace(/\[1\],|"[^"]*":/g, "").replaceAll("[", "]").replaceAll("{", "}");
          const bytes = bytesOf(part.repeat(million) + inner + (isClosed ? closing.repeat(million) : ""));
          outcomeOf(() => assert.fail(String(parse(bytes))), NuropbMessageError);
        },
      ),
    );
  });
});

describe("a body of the largest size", () => {
  const size = 16 * 2 ** 20;
  const bodies: readonly [what: string, text: () => string][] = [
    ["opening brackets", () => "[".repeat(size)],
    ["pairs of brackets", () => "[".repeat(size / 2) + "]".repeat(size / 2)],
    ["opening braces", () => '{"":'.repeat(size / 4)],
    ["brackets around a word of Python's", () => `${"[".repeat(size / 2 - 2)}NaN${"]".repeat(size / 2 - 2)}`],
  ];
  for (const [what, text] of bodies) {
    it(`that is nothing but ${what} is refused as soon as any other`, () => {
      const bytes = bytesOf(text());
      const started = performance.now();
      const { error } = outcomeOf(() => parse(bytes), NuropbMessageError);
      const took = performance.now() - started;
      assert.ok(error !== undefined);
      assert.ok(took < 1_000, `It took ${Math.round(took)} ms`);
    });
  }
});

describe("the writer of JSON", () => {
  it("writes what the language does, or refuses, and nothing that the reader refuses", () => {
    check(
      10_000,
      fc.property(anything, (make) => {
        const value = make();
        const { value: text, error } = outcomeOf(() => stringify("value", value), NuropbValidationError);
        if (text === undefined) return assert.equal(error?.code, "INVALID_ARGUMENT");
        assert.equal(text, JSON.stringify(value) ?? "null");
        assert.equal(JSON.stringify(parse(bytesOf(text))), text);
      }),
    );
  });

  it("refuses what is nested too deep, were it a million levels or a cycle", () => {
    const levels = fc.oneof(
      { weight: 20, arbitrary: fc.integer({ min: 90, max: 110 }) },
      { weight: 20, arbitrary: fc.integer({ min: 1, max: 20_000 }) },
      fc.constant(1_000_000),
    );
    check(
      500,
      fc.property(levels, fc.nat(), fc.boolean(), (depth, mix, isCycle) => {
        const bottom: unknown[] = [];
        let value: unknown = bottom;
        for (let level = 1; level < depth; level++) {
          value = (mix >> level % 31) % 2 === 0 ? [value] : { a: value };
        }
        if (isCycle) bottom.push(value);
        const { error } = outcomeOf(() => stringify("value", value), NuropbValidationError);
        // One level is the message's own.
        assert.equal(error === undefined, depth < MAX_DEPTH && !isCycle, `${depth} levels`);
      }),
    );
  });
});

/** As Python's `json.dumps` writes it. */
function pythonText(value: unknown): string {
  if (typeof value === "number") return Object.is(value, -0) ? "0" : String(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(pythonText).join()}]`;
  return `{${
    Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}:${pythonText(item)}`).join()
  }}`;
}
