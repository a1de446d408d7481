import assert from "node:assert/strict";
import fc from "fast-check";
import { describe, it } from "@std/testing/bdd";
import { NuropbMessageError, NuropbValidationError } from "../../src/errors.ts";
import { parse, stringify } from "../../src/wire/json.ts";
import { bytesOf } from "../../src/message.ts";

const exactly = (text: string) => parse(bytesOf(text), "bigint");
const rounded = (text: string) => parse(bytesOf(text));

/** A number or a BigInt, as either is read exactly. */
const integer = (value: bigint) => Number.isSafeInteger(Number(value)) ? Number(value) : value;

/** What Python's `json.dumps` makes of a value, but for the spaces. */
function write(value: unknown): string {
  if (typeof value === "bigint") return `${value}`;
  if (Object.is(value, -0)) return "-0";
  if (Array.isArray(value)) return `[${value.map(write).join(", ")}]`;
  if (typeof value === "number" && !Number.isFinite(value)) return `${value}`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${
    Object.entries(value).map(([key, field]) => `${JSON.stringify(key)}: ${write(field)}`).join(", ")
  }}`;
}

const { value: anything } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.bigInt({ min: -(10n ** 40n), max: 10n ** 40n }).map(integer),
    fc.integer(),
    // Those that are not whole: a whole one may be written as an integer past 2^53.
    fc.double().filter((number) => !Number.isInteger(number) || Number.isSafeInteger(number)),
    fc.constantFrom(null, true, false, "", "9007199254740993", '"9007199254740993', "NaN", "-Infinity\\"),
    fc.string(),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(fc.oneof(fc.string(), fc.constantFrom("9007199254740993", "NaN")), tie("value"), {
      maxKeys: 4,
    })
      .map((fields) => ({ ...fields })),
  ),
}));

describe("integers that are read exactly", () => {
  const values: [string, unknown][] = [
    ["9007199254740991", 9007199254740991],
    ["-9007199254740991", -9007199254740991],
    ["9007199254740992", 9007199254740992n],
    ["-9007199254740992", -9007199254740992n],
    ["9007199254740993", 9007199254740993n],
    ["1180591620717411303424", 2n ** 70n],
    [`-${"9".repeat(5_000)}`, -BigInt("9".repeat(5_000))],
    ["0", 0],
    ["-0", -0],
    ["9007199254740993.0", 9007199254740992],
    ["90071992547409930e-1", 9007199254740992],
    ["1e21", 1e21],
    ["12345678901234567890E+2", 12345678901234567890e2],
    ["0.12345678901234567890", 0.12345678901234567890],
    ['"9007199254740993"', "9007199254740993"],
    ['"-9007199254740993 \\" 9007199254740993 \\\\"', '-9007199254740993 " 9007199254740993 \\'],
    ['{"9007199254740993": 9007199254740993}', { "9007199254740993": 9007199254740993n }],
    ['{"9007199254740993" :9007199254740993 }', { "9007199254740993": 9007199254740993n }],
    ["[9007199254740993,9007199254740993]", [9007199254740993n, 9007199254740993n]],
    ["[9007199254740993\n,\t-9007199254740993 ]", [9007199254740993n, -9007199254740993n]],
    ["[NaN, 9007199254740993, -Infinity]", [NaN, 9007199254740993n, -Infinity]],
  ];
  for (const [text, value] of values) {
    it(`make ${typeof value === "bigint" ? "a BigInt" : "no BigInt"} of ${text.slice(0, 60)}`, () => {
      assert.deepEqual(exactly(text), value);
    });
  }

  it("come back as they were, among anything else", () => {
    fc.assert(fc.property(anything, (value) => assert.deepEqual(exactly(write(value)), value)), {
      numRuns: 500,
      seed: 1,
    });
  });

  it("change nothing in what has none", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), (text) => {
        const value = exactly(text);
        assert.equal(stringify("value", asNumbers(value)), stringify("value", JSON.parse(text)));
      }),
      { seed: 1 },
    );
  });

  function asNumbers(value: unknown): unknown {
    if (typeof value === "bigint") return Number(value);
    if (Array.isArray(value)) return value.map(asNumbers);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, asNumbers(field)]));
  }

  it("are the nearest number otherwise", () => {
    assert.deepEqual(rounded("[9007199254740993, -9007199254740993, 1180591620717411303424]"), [
      9007199254740992,
      -9007199254740992,
      2 ** 70,
    ]);
  });

  it("do not let a text of the message pass for one", () => {
    const id = /[0-9a-f]{32}/;
    const mark = crypto.randomUUID().replaceAll("-", "");
    const value = exactly(`["${mark}9007199254740993", 9007199254740993]`);
    assert.deepEqual(value, [`${mark}9007199254740993`, 9007199254740993n]);
    assert.doesNotMatch(write(exactly('{"a": 9007199254740993, "b": NaN}')), id);
  });

  it("cannot reach a prototype", () => {
    const value = exactly(
      '{"__proto__": 9007199254740993, "a": {"__proto__": {"b": 9007199254740993}}}',
    ) as object;
    assert.deepEqual(Object.keys(value), ["__proto__", "a"]);
    assert.equal(Object.getPrototypeOf(value), Object.prototype);
    assert.equal(({} as { b?: unknown }).b, undefined);
  });

  const broken = [
    "[09007199254740993]",
    "[-09007199254740993]",
    "[+9007199254740993]",
    "[--9007199254740993]",
    "[- 9007199254740993]",
    "[9007199254740993.]",
    "[.9007199254740993]",
    "[9007199254740993e]",
    "[9007199254740993n]",
    "[0x9007199254740993]",
    "[9007199254740993 9007199254740993]",
    "[9007199254740993,]",
    "{9007199254740993: 1}",
    '{"a": 1, 9007199254740993 : 1}',
    '"9007199254740993',
    "9007199254740993 x",
    '9007199254740993""',
    '""9007199254740993',
  ];
  for (const text of broken) {
    it(`do not make JSON of ${text}`, () => {
      for (const read of [exactly, rounded]) {
        assert.throws(
          () => read(text),
          (error) => error instanceof NuropbMessageError && error.code === "INVALID_MESSAGE",
        );
      }
    });
  }

  const long: [string, () => string, (value: unknown) => boolean][] = [
    [
      "a text of 15 MB",
      () => `["${"x".repeat(15_000_000)}", 9007199254740993]`,
      (value) => (value as unknown[])[1] === 9007199254740993n,
    ],
    [
      "a text of a million escapes",
      () => `["${'\\"'.repeat(1_000_000)}", 9007199254740993]`,
      (value) => (value as string[])[0]!.length === 1_000_000,
    ],
    [
      "a hundred thousand of them",
      () => `[${new Array(100_000).fill("9007199254740993").join(",")}]`,
      (value) => (value as bigint[]).length === 100_000,
    ],
    [
      "a hundred thousand blanks after it",
      () => `[9007199254740993${" ".repeat(100_000)}]`,
      (value) => (value as bigint[])[0] === 9007199254740993n,
    ],
  ];
  for (const [what, make, holds] of long) {
    it(`are read soon beside ${what}`, () => {
      const text = make();
      const started = performance.now();
      const value = exactly(text);
      const took = performance.now() - started;
      assert.ok(holds(value));
      assert.ok(took < 3_000, `${Math.round(took)} ms`);
    });
  }

  const exhausting: [string, string][] = [
    ["an open text full of escapes", `9007199254740993"${'\\"'.repeat(50_000)}`],
    ["quotes and backslashes", `9007199254740993${'"\\'.repeat(50_000)}`],
    ["backslashes", `9007199254740993"${"\\".repeat(100_000)}"`],
    ["digits that go on", `9007199254740993 ${"1".repeat(100_000)}x`],
    ["digits before a colon", `${"1".repeat(100_000)}:`],
    ["blanks without a colon", `[${"1 ".repeat(50_000)}${" ".repeat(50_000)}9007199254740993`],
    ["minus signs", `9007199254740993${"-".repeat(100_000)}`],
  ];
  for (const [what, text] of exhausting) {
    it(`are refused soon when they are broken and long: ${what}`, () => {
      const started = performance.now();
      assert.throws(() => exactly(text), NuropbMessageError);
      const took = performance.now() - started;
      assert.ok(took < 1_000, `${Math.round(took)} ms for ${text.length} characters`);
    });
  }

  it("may be nested as deep as anything", () => {
    const nested = (levels: number) => "[".repeat(levels) + "9007199254740993" + "]".repeat(levels);
    assert.deepEqual(JSON.stringify(asNumbers(exactly(nested(100)))), JSON.stringify(rounded(nested(100))));
    for (const levels of [101, 5_000]) assert.throws(() => exactly(nested(levels)), NuropbMessageError);
  });
});

describe("integers that are written", () => {
  it("are never BigInt, wherever it is", () => {
    for (
      const [value, path] of [[5n, ""], [[5n], "[0]"], [{ a: [{ b: 5n }] }, ".a[0].b"], [
        Object(5n),
        "",
      ]] as const
    ) {
      assert.throws(() => stringify("params", value), (error) => {
        assert.ok(error instanceof NuropbValidationError);
        assert.match(error.message, /must be something that JSON can carry/);
        return error.message.startsWith(`params${path} `);
      });
    }
  });

  it("are never what a toJSON makes of it", () => {
    const value = { id: { toJSON: () => 5n } };
    assert.throws(() => stringify("params", value), NuropbValidationError);
  });
});
