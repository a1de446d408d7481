/**
 * A reporter for Node's test runner that writes each test as it ends, in JUnit's format. Node's own one writes
 * everything at the end, and nothing when the process does not come to its end by itself.
 *
 * @module
 */
import { inspect } from "node:util";
import { formatCase } from "./junit.ts";

/** The part of the runner's events that is used here. */
interface RunnerEvent {
  readonly type: string;
  readonly data: {
    readonly name?: string;
    readonly skip?: unknown;
    readonly details?: { readonly error?: { readonly cause?: unknown } };
  };
}

/** Called by the runner. */
export default async function* report(events: AsyncIterable<RunnerEvent>): AsyncGenerator<string> {
  for await (const { type, data: { name = "", skip = false, details } } of events) {
    if (type === "test:pass") {
      yield formatCase({ name, outcome: skip === false ? "passed" : "skipped", detail: "" });
    } else if (type === "test:fail") {
      yield formatCase({ name, outcome: "failed", detail: inspect(details?.error?.cause) });
    }
  }
}
