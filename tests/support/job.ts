/**
 * Runs one test file on one runtime, in a process and a virtual host of its own.
 *
 * @module
 */
import { join } from "node:path";
import { parseJunit, type TestCase } from "./junit.ts";
import type { Broker } from "./management.ts";
import { run } from "./processes.ts";
import type { Runtime } from "./runtimes.ts";

/** One test file on one runtime. */
export interface Job {
  readonly runtime: Runtime;
  /** Relative to the repository. */
  readonly file: string;
}

/** What all jobs share. */
export interface Setting {
  /** The repository. */
  readonly root: string;
  /** For what the tests write. */
  readonly folder: string;
  /** Where the tests were built for Node. */
  readonly built: string;
  readonly broker: Broker | undefined;
  readonly env: Readonly<Record<string, string>>;
}

/** How a job went. */
export interface Result extends Job {
  readonly cases: readonly TestCase[];
  /** What went wrong with the process itself. */
  readonly problem: string | undefined;
  readonly seconds: number;
}

/** Built along with the tests for Node. */
export const NODE_REPORTER = "tests/support/node_reporter.ts";

const FILE_TIMEOUT_MS = 300_000;

/** The tests of one file. Never throws. */
export async function runJob(job: Job, setting: Setting): Promise<Result> {
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1_000;
  try {
    const outcome = await runFile(job, setting);
    return { ...job, ...outcome, seconds: seconds() };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    return { ...job, cases: [], problem, seconds: seconds() };
  }
}

async function runFile(job: Job, setting: Setting): Promise<Pick<Result, "cases" | "problem">> {
  const { root, folder, built, broker, env } = setting;
  const { runtime } = job;
  const name = crypto.randomUUID().slice(0, 8);
  const report = join(folder, `${name}.xml`);
  await using vhost = await broker?.createVhost(`nuropb-test-${name}`);
  const onNode = runtime.name.startsWith("node");
  const { code, output, timedOut } = await run(runtime.command, argumentsFor(job, report, built), {
    cwd: root,
    timeoutMs: FILE_TIMEOUT_MS,
    // An empty value is as good as none, and hides what the user's shell may have set.
    env: {
      ...env,
      NUROPB_TEST_RUNTIME: runtime.name,
      NUROPB_TEST_URL: vhost?.url ?? "",
      NUROPB_TEST_MANAGEMENT_URL: broker?.managementUrl ?? "",
      NUROPB_TEST_BUILT: onNode ? built : "",
      ...(onNode ? { NUROPB_TEST_NODE: runtime.command } : {}),
    },
  });
  const cases = parseJunit(await Deno.readTextFile(report).catch(() => ""));
  const tail = output.trim().split("\n").slice(-40).join("\n");
  const explained = cases.some(({ outcome, detail }) => outcome === "failed" && detail !== "Cancelled");
  let problem: string | undefined;
  if (timedOut) problem = `It was not done within ${FILE_TIMEOUT_MS / 1000} s:\n${tail}`;
  else if (code !== 0 && !explained) problem = `It ended with code ${code}:\n${tail}`;
  return { cases, problem };
}

function argumentsFor({ runtime, file }: Job, report: string, built: string): string[] {
  switch (runtime.name) {
    case "deno":
      // The types are checked once for all files.
      return ["test", "-A", "--no-check", `--junit-path=${report}`, file];
    case "bun":
      return ["test", "--reporter=junit", `--reporter-outfile=${report}`, `./${file}`];
    default:
      return [
        "--enable-source-maps",
        `--test-reporter=${join(built, NODE_REPORTER.replace(/\.ts$/, ".js"))}`,
        `--test-reporter-destination=${report}`,
        "--test-reporter=spec",
        "--test-reporter-destination=stdout",
        join(built, file.replace(/\.ts$/, ".js")),
      ];
  }
}
