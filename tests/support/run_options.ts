/**
 * The command line of the test runner.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { type RuntimeName, RUNTIMES } from "./runtimes.ts";

/** What the command line asks for. */
export interface Options {
  readonly runtimes: readonly RuntimeName[];
  readonly only: string;
  /** How many test files run at once. */
  readonly jobs: number;
}

/** Reads the command line; throws a TypeError that says what is wrong with it. */
export function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      runtime: { type: "string", default: RUNTIMES.join(",") },
      only: { type: "string", default: "" },
      // Tests wait more than they compute.
      jobs: { type: "string", default: `${navigator.hardwareConcurrency + 1}` },
    },
  });
  const runtimes = values.runtime.split(",").map((name) => {
    const known = RUNTIMES.find((runtime) => runtime === name);
    if (known === undefined) {
      throw new TypeError(`--runtime must be of ${RUNTIMES.join(",")}, and was ${name}`);
    }
    return known;
  });
  const jobs = Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1) {
    throw new TypeError(`--jobs must be 1 or more, and was ${values.jobs}`);
  }
  return { runtimes, only: values.only, jobs };
}
