/**
 * Stands in for `node:test` where there is no Node: keeps the tests until they are run, one after the other.
 *
 * @module
 */

/** A test, as `tests/support/bdd.ts` hands it on. */
interface Test {
  readonly name: string;
  readonly skip: boolean;
  readonly body: () => Promise<void>;
}

/** How a test went: `problem` is why it failed. */
export interface Outcome {
  readonly name: string;
  readonly problem?: string;
}

const tests: Test[] = [];

/** Takes a test in. */
export function test(name: string, { skip }: { skip: boolean }, body: () => Promise<void>): void {
  tests.push({ name, skip, body });
}

/** Whoever started this sees to its end. */
export function after(): void {}

/** Runs what was taken in. A skipped test counts as failed, for whoever leaves one out must know. */
export async function runAll(): Promise<Outcome[]> {
  const stray: unknown[] = [];
  const onstray = (event: { reason?: unknown; error?: unknown; preventDefault(): void }) => {
    event.preventDefault();
    stray.push(event.reason ?? event.error);
  };
  globalThis.addEventListener("unhandledrejection", onstray);
  const outcomes: Outcome[] = [];
  for (const { name, skip, body } of tests.splice(0)) {
    const failures = skip ? ["skipped"] : await body().then(() => [], (error: unknown) => [error]);
    failures.push(...stray.splice(0));
    outcomes.push(failures.length === 0 ? { name } : { name, problem: failures.map(text).join("\n") });
  }
  globalThis.removeEventListener("unhandledrejection", onstray);
  return outcomes;
}

function text(failure: unknown): string {
  return failure instanceof Error ? `${failure.stack ?? failure}` : String(failure);
}
