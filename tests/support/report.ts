/**
 * Counts and prints what the tests gave.
 *
 * @module
 */
import type { Result } from "./job.ts";
import type { RuntimeName } from "./runtimes.ts";

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** How many lines of a failure are shown. */
const DETAIL_LINES = 30;

/** The report of one run. */
export class Report {
  readonly #counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  readonly #perRuntime = new Map<RuntimeName, Counts & { seconds: number }>();
  readonly #failures: string[] = [];
  readonly #skips: string[] = [];
  readonly #print: (line: string) => unknown;
  /** Whether anything is missing on this machine, so that a file may have no test to run. */
  #incomplete = false;

  constructor(print: (line: string) => unknown) {
    this.#print = print;
  }

  /** Takes in one test file on one runtime. */
  add({ runtime: { name }, file, cases, problem, seconds }: Result): void {
    const counts = this.#perRuntime.get(name) ?? { passed: 0, failed: 0, skipped: 0, seconds: 0 };
    this.#perRuntime.set(name, counts);
    counts.seconds += seconds;
    const both = [counts, this.#counts];
    for (const test of cases) {
      for (const count of both) count[test.outcome]++;
      const title = `${name} ${file}: ${test.name}`;
      if (test.outcome === "failed") this.#failed(title, test.detail);
      if (test.outcome === "skipped") this.#skips.push(title);
    }
    const nothing = cases.length === 0 && !this.#incomplete ? "It has no tests" : undefined;
    const trouble = problem ?? nothing;
    if (trouble === undefined) return;
    for (const count of both) count.failed++;
    this.#failed(`${name} ${file}`, trouble);
  }

  /** Something of the run itself went wrong. */
  fail(what: string, why: string): void {
    this.#counts.failed++;
    this.#failed(what, why);
  }

  /** This machine cannot run something. */
  skip(what: string, why: string): void {
    this.#incomplete = true;
    this.#counts.skipped++;
    this.#skips.push(`${what}: ${why}`);
  }

  /** One line about a runtime, with the time of all its files. */
  summarize(name: RuntimeName): void {
    const counts = this.#perRuntime.get(name);
    if (counts === undefined) return;
    this.#print(`${name.padEnd(8)}${sentence(counts)} (${counts.seconds.toFixed(0)} s)`);
  }

  /**
   * Lists what failed and what was skipped, then the counts.
   *
   * @returns Whether all is well.
   */
  end(skipsFail: boolean): boolean {
    this.#list("Failed", this.#failures);
    this.#list(skipsFail ? "Skipped, which is a failure with CI=true" : "Skipped", this.#skips);
    const { passed, failed, skipped } = this.#counts;
    const counts = skipsFail ? { passed, failed: failed + skipped, skipped: 0 } : this.#counts;
    this.#print("");
    this.#print(sentence(counts));
    return counts.failed === 0;
  }

  #failed(title: string, detail: string): void {
    this.#failures.push(title);
    this.#print(`FAILED  ${title}`);
    for (const line of relevant(detail)) this.#print(`    ${line}`);
  }

  #list(title: string, lines: readonly string[]): void {
    if (lines.length === 0) return;
    this.#print("");
    this.#print(`${title}:`);
    for (const line of lines) this.#print(`  ${line}`);
  }
}

function sentence({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

/** Without the frames of the runner. */
function relevant(detail: string): string[] {
  const lines = detail.trim().split("\n");
  return lines.filter((line) => !/^\s*at .*(support\/bdd\.|node:internal)/.test(line)).slice(0, DETAIL_LINES);
}
