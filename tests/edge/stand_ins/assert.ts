/**
 * Stands in for `node:assert/strict` where there is no Node: the part of it that the conformance tests use.
 *
 * @module
 */
import { inspect } from "./util.ts";

class AssertionError extends Error {
  override readonly name = "AssertionError";

  constructor({ message, ...values }: { message?: string; actual?: unknown; expected?: unknown }) {
    super([message ?? "Not as expected", ...Object.entries(values).map(show)].join("\n"));
  }
}

function show([name, value]: [string, unknown]): string {
  return `${name}: ${inspect(value)}`;
}

function check(holds: boolean, actual: unknown, expected: unknown, message?: string): void {
  if (!holds) throw new AssertionError({ actual, expected, ...(message === undefined ? {} : { message }) });
}

function ok(value: unknown, message?: string): void {
  check(Boolean(value), value, true, message);
}

/** Whether two values are of one kind and have the same content, as `deepStrictEqual` has it. */
function same(left: unknown, right: unknown): boolean {
  if (Object.is(left, right)) return true;
  if (typeof left !== "object" || typeof right !== "object" || left === null || right === null) return false;
  if (Object.getPrototypeOf(left) !== Object.getPrototypeOf(right)) return false;
  if (left instanceof Date || left instanceof RegExp) return String(left) === String(right);
  if (left instanceof Set && right instanceof Set) {
    return left.size === right.size &&
      [...left].every((member) => [...right].some((other) => same(member, other)));
  }
  if (left instanceof Map && right instanceof Map) return same(new Set(left), new Set(right));
  const keys = keysOf(left);
  if (keys.length !== keysOf(right).length) return false;
  return keys.every((key) =>
    Object.hasOwn(right, key) && same(Reflect.get(left, key), Reflect.get(right, key))
  );
}

function keysOf(value: object): PropertyKey[] {
  const keys = Reflect.ownKeys(value).filter((key) => Object.prototype.propertyIsEnumerable.call(value, key));
  // What an error says is not enumerable, and counts all the same.
  return value instanceof Error
    ? [...new Set([...keys, "name", "message", "cause"])].filter((key) => key in value)
    : keys;
}

function fits(thrown: unknown, expected: RegExp | object | ((error: unknown) => boolean)): boolean {
  if (expected instanceof RegExp) return expected.test(String(thrown));
  if (typeof expected === "function") return expected(thrown);
  return Object.entries(expected).every(([key, value]) => same(Reflect.get(Object(thrown), key), value));
}

const assert = Object.assign(ok, {
  AssertionError,
  ok,
  equal: (actual: unknown, expected: unknown, message?: string) =>
    check(Object.is(actual, expected), actual, expected, message),
  notEqual: (actual: unknown, expected: unknown, message?: string) =>
    check(!Object.is(actual, expected), actual, expected, message),
  deepEqual: (actual: unknown, expected: unknown, message?: string) =>
    check(same(actual, expected), actual, expected, message),
  match: (actual: string, pattern: RegExp, message?: string) =>
    check(pattern.test(actual), actual, pattern, message),
  doesNotMatch: (actual: string, pattern: RegExp, message?: string) =>
    check(!pattern.test(actual), actual, pattern, message),
  throws(operation: () => unknown, expected: RegExp | object | ((error: unknown) => boolean)): void {
    let thrown: unknown;
    try {
      operation();
    } catch (error) {
      thrown = error;
    }
    check(
      thrown !== undefined && fits(thrown, expected),
      thrown,
      expected,
      "It threw nothing, or something else",
    );
  },
});

export default assert;
