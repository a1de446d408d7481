/**
 * How the property tests run: every case from one seed, so that each run is the same. fast-check prints the seed and
 * the path of a case that fails; `NUROPB_TEST_SEED` has another one tried.
 *
 * @module
 */
import assert from "node:assert/strict";
import process from "node:process";
import fc from "fast-check";
import { NuropbException } from "@nuropb/mesh";

const seed = Number(process.env["NUROPB_TEST_SEED"] ?? 20_240_229);

/** What one case may take, in ms: far more than any does, and far less than for ever. */
const CASE_LIMIT = 5_000;

/** Tries a synchronous property. */
export function check<Values>(cases: number, property: fc.IProperty<Values>): void {
  fc.assert(property, { seed, numRuns: cases });
  assert.deepEqual(Reflect.ownKeys({}), []);
  assert.equal(pollution(), pollutionBefore, "Something was added to what every object inherits");
}

/** Tries an asynchronous property, one case after the other. */
export async function checkAsync<Values>(
  cases: number,
  property: fc.IAsyncProperty<Values>,
): Promise<void> {
  await fc.assert(property, { seed, numRuns: cases, timeout: CASE_LIMIT });
  assert.equal(pollution(), pollutionBefore, "Something was added to what every object inherits");
}

const inherited = [Object.prototype, Array.prototype, Function.prototype, String.prototype];
const pollution = () => inherited.map((prototype) => Reflect.ownKeys(prototype).map(String).join()).join();
const pollutionBefore = pollution();

type ErrorClass = new (...args: never[]) => NuropbException;

/** What a function gives, or the error that it throws, which must be of one of these classes. */
export function outcomeOf<Value>(run: () => Value, ...allowed: ErrorClass[]): Outcome<Value> {
  const started = performance.now();
  try {
    return { value: run() };
  } catch (error) {
    return { error: allowedError(error, allowed) };
  } finally {
    const took = performance.now() - started;
    assert.ok(took < CASE_LIMIT, `It took ${took} ms`);
  }
}

/** What a promise gives, or the error that it rejects with, which must be of one of these classes. */
export async function settledOutcomeOf<Value>(
  run: () => Value | PromiseLike<Value>,
  ...allowed: ErrorClass[]
): Promise<Outcome<Value>> {
  try {
    return { value: await run() };
  } catch (error) {
    return { error: allowedError(error, allowed) };
  }
}

/** A value or an error. */
export type Outcome<Value> =
  | { readonly value: Value; readonly error?: undefined }
  | { readonly value?: undefined; readonly error: NuropbException };

function allowedError(error: unknown, allowed: readonly ErrorClass[]): NuropbException {
  if (error instanceof NuropbException && allowed.some((kind) => error instanceof kind)) {
    // An error that cannot be shown is of no use.
    assert.equal(typeof error.message, "string");
    assert.ok(error.message.length < 10_000, `The error's text has ${error.message.length} characters`);
    return error;
  }
  throw new assert.AssertionError({
    message: `Failed with what is not allowed: ${error instanceof Error ? error.stack : String(error)}`,
    actual: error,
  });
}
