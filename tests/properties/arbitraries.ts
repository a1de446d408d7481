/**
 * What the property tests try: JSON with all its corners, anything that is no JSON, and bytes that were changed.
 *
 * @module
 */
import fc from "fast-check";

/** Any text of UTF-16, halves of surrogate pairs included. */
const utf16: fc.Arbitrary<string> = fc.array(fc.nat(0xffff), { maxLength: 8 })
  .map((codes) => String.fromCharCode(...codes));

/** Names that mean something to the language, to the mesh, or to Python. */
const names: fc.Arbitrary<string> = fc.constantFrom(
  "",
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "valueOf",
  "toJSON",
  "then",
  "length",
  "hasOwnProperty",
  "0",
  "NaN",
  "-Infinity",
  "tag",
  "context",
  "correlation_id",
  "nuropb_describe",
  "\u0000",
  "\u2028",
  '"',
  "\\",
  '\\"',
  "\ud800",
  "\udfff\ud800",
);

/** A text. */
export const texts: fc.Arbitrary<string> = fc.oneof(
  { weight: 3, arbitrary: fc.string({ maxLength: 20 }) },
  fc.string({ unit: "binary", maxLength: 20 }),
  { weight: 2, arbitrary: utf16 },
  { weight: 3, arbitrary: names },
);

/** A number that JSON can carry, if not always as it is written. */
const numbers: fc.Arbitrary<number> = fc.oneof(
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.constantFrom(0, -0, 1e308, -1e308, 5e-324, 1e21, 2 ** 53, 2 ** 53 + 2, -(2 ** 63), 0.1 + 0.2),
);

/**
 * The name of a property. Without a backslash, since V8 confuses keys that have one with keys that are escaped:
 * https://github.com/nodejs/node/issues/63785
 */
export const keys: fc.Arbitrary<string> = texts.map((text) => text.replaceAll("\\", "/"));

/** An object of own properties alone, even when one is called `__proto__`. */
function objects<Value>(values: fc.Arbitrary<Value>): fc.Arbitrary<Record<string, Value>> {
  return fc.array(fc.tuple(keys, values), { maxLength: 5, depthIdentifier: "json" })
    .map((entries) => Object.fromEntries(entries));
}

const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthIdentifier: "json", depthSize: "small", withCrossShrink: true },
    fc.oneof(texts, numbers, fc.boolean(), fc.constant(null)),
    fc.array(tie("value"), { maxLength: 5, depthIdentifier: "json" }),
    objects(tie("value")),
  ),
}));

/** Anything that JSON can carry. */
export const jsonValues: fc.Arbitrary<unknown> = value;

/** An object that JSON can carry. */
export const jsonObjects: fc.Arbitrary<Record<string, unknown>> = objects(value);

/** Made when it is used, since fast-check itself looks at what it is given. */
export type Maker = () => unknown;

/** A maker that is shown as what it makes, in the report of a case that fails. */
export function shown(make: Maker): Maker {
  const show = () => {
    try {
      return `() => ${fc.stringify(make())}`;
    } catch {
      return String(make);
    }
  };
  return Object.assign(() => make(), { [fc.toStringMethod]: show });
}

/** What throws when it is looked at, or is no data. */
const hostile: fc.Arbitrary<Maker> = fc.constantFrom<Maker[]>(
  () => ({
    get x() {
      throw new Error("a getter");
    },
  }),
  () => ({
    toJSON() {
      throw new Error("a toJSON");
    },
  }),
  () => ({ toJSON: () => NaN }),
  () => ({ toJSON: () => "text" }),
  () => ({
    toString() {
      throw new Error("a toString");
    },
    valueOf: null,
  }),
  () => {
    const cycle: unknown[] = [];
    cycle.push({ cycle });
    return cycle;
  },
  () => Object.assign(new Error("an error"), { name: Symbol("name") }),
  () => Object.defineProperty(new Error(), "message", { get: () => fail("a message") }),
  () => Promise.resolve(1),
  () => Object.create(null),
  () => class {},
  () => async function* () {},
  () => new Error("an error"),
  () => new WeakMap(),
  () => new URL("http://a/"),
  () => new ArrayBuffer(3),
  () => Object(Symbol("boxed")),
  () => Object(1n),
  () => new Array(3),
  () => globalThis.crypto,
  () => "x".repeat(100_000),
);

/** What throws at the slightest touch. */
const proxies: fc.Arbitrary<Maker> = fc.constantFrom<Maker[]>(
  () => new Proxy({}, { ownKeys: () => fail("a proxy") }),
  () => new Proxy({}, { get: () => fail("a proxy") }),
  () => new Proxy({}, { getPrototypeOf: () => fail("a proxy") }),
  () => revoked({}),
  () => revoked([]),
  () => revoked(() => {}),
);

function fail(what: string): never {
  throw new Error(what);
}

function revoked(target: object): unknown {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}

/** Any data, which may be more than JSON can carry. */
export const data: fc.Arbitrary<unknown> = fc.anything({
  key: keys,
  maxDepth: 3,
  maxKeys: 4,
  withBigInt: true,
  withBoxedValues: true,
  withDate: true,
  withMap: true,
  withNullPrototype: true,
  withObjectString: true,
  withSet: true,
  withSparseArray: true,
  withTypedArray: true,
});

/** Anything that can be touched. */
export const touchable: fc.Arbitrary<Maker> = fc.oneof(
  { weight: 4, arbitrary: value.map((data) => () => data) },
  { weight: 4, arbitrary: data.map((data) => () => data) },
  { weight: 2, arbitrary: hostile },
  fc.tuple(keys, hostile).map(([key, make]) => () => ({ [key]: make() })),
  fc.constantFrom<unknown[]>(undefined, NaN, Infinity, -0, 1n, Symbol("s")).map((data) => () => data),
).map(shown);

/** Anything at all. */
export const anything: fc.Arbitrary<Maker> = fc.oneof(
  { weight: 12, arbitrary: touchable },
  proxies.map(shown),
  fc.tuple(keys, proxies).map(([key, make]) => shown(() => ({ [key]: make() }))),
);

/** How bytes are changed on a faulty way. */
export type Damage =
  | { readonly kind: "flip"; readonly at: number; readonly bit: number }
  | { readonly kind: "set"; readonly at: number; readonly byte: number }
  | { readonly kind: "cut"; readonly at: number; readonly count: number }
  | { readonly kind: "grow"; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: "end"; readonly at: number };

/** From 0 to 1, since nobody knows yet how many bytes there are. */
const places = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({ kind: fc.constant("flip" as const), at: places, bit: fc.nat(7) }),
  fc.record({ kind: fc.constant("set" as const), at: places, byte: fc.nat(255) }),
  fc.record({ kind: fc.constant("cut" as const), at: places, count: fc.integer({ min: 1, max: 20 }) }),
  fc.record({
    kind: fc.constant("grow" as const),
    at: places,
    bytes: fc.uint8Array({ minLength: 1, maxLength: 20 }),
  }),
  fc.record({ kind: fc.constant("end" as const), at: places }),
);

/** One damage or a few. */
export const damages: fc.Arbitrary<readonly Damage[]> = fc.array(damage, { minLength: 1, maxLength: 4 });

/** A damaged copy. */
export function damaged(bytes: Uint8Array, all: readonly Damage[]): Uint8Array<ArrayBuffer> {
  let copy = Uint8Array.from(bytes);
  for (const each of all) {
    const at = Math.floor(each.at * copy.length);
    switch (each.kind) {
      case "flip":
        if (copy.length > 0) copy[at]! ^= 1 << each.bit;
        break;
      case "set":
        if (copy.length > 0) copy[at] = each.byte;
        break;
      case "cut":
        copy = joined(copy.subarray(0, at), copy.subarray(at + each.count));
        break;
      case "grow":
        copy = joined(copy.subarray(0, at), each.bytes, copy.subarray(at));
        break;
      case "end":
        copy = copy.slice(0, at);
    }
  }
  return copy;
}

/** Bytes one after the other. */
export function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((size, { length }) => size + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
