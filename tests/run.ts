/**
 * Runs every test on every runtime, beside a RabbitMQ of its own.
 *
 * deno task test [--runtime deno,bun,node20,node22,node24] [--only PATH_SUBSTRING] [--jobs N]
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runJob } from "./support/job.ts";
import { PARITY_TEST, writeParity } from "./support/parity.ts";
import { type Plan, prepare, runsOn } from "./support/prepare.ts";
import { stopAll } from "./support/processes.ts";
import { Progress } from "./support/progress.ts";
import { Report } from "./support/report.ts";
import { readOptions } from "./support/run_options.ts";
import { type Runtime, RUNTIMES } from "./support/runtimes.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const cache = join(root, ".cache");
/** Tests that do nothing but wait, for minutes: they run beside the others. */
const IDLE = /_idle_\w*test\.ts$/;
/** Tests that time how brokers, or what hangs on them, come back: they run by themselves. */
const ALONE = /_alone_\w*test\.ts$/;

async function main(): Promise<boolean> {
  const { runtimes, only, jobs } = readOptions();
  const tests = (await filesBelow("tests", "_test.ts")).filter((test) => test.includes(only));
  const scripts = await filesBelow("tests", "_script.ts");
  await Deno.mkdir(cache, { recursive: true });
  const folder = await Deno.makeTempDir({ dir: cache, prefix: "run-" });
  const parity = join(folder, "parity");
  await Deno.mkdir(parity);
  try {
    using progress = new Progress();
    const stopped = stopOnSignal();
    // What fails after that fails for no other reason.
    const report = new Report((line) => stopped.aborted || progress.print(line));
    if (tests.length === 0) report.fail("--only", `There is no test with ${only} in its path`);
    else {await runAll(
        { root, cache, folder, runtimes, tests, scripts, parity },
        jobs,
        progress,
        report,
        stopped,
      );}
    if (stopped.aborted) return false;
    const isCi = Deno.env.get("CI") === "true";
    if (tests.includes(PARITY_TEST) && runtimes.length === RUNTIMES.length) {
      await writeParity(root, parity, isCi, report);
    }
    return report.end(isCi);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function runAll(
  plan: Plan,
  jobs: number,
  progress: Progress,
  report: Report,
  stopped: AbortSignal,
): Promise<void> {
  await using prepared = await prepare(plan, progress, report);
  const { runtimes, setting } = prepared;
  const inTurn = limiter(jobs);
  const runOn = async (runtime: Runtime) => {
    const files = plan.tests.filter((test) => runsOn(runtime, test));
    const runFile = async (file: string) => {
      if (stopped.aborted) return;
      report.add(await progress.during(`${runtime.name} ${file}`, runJob({ runtime, file }, setting)));
    };
    await Promise.all(files.map((file) => {
      if (IDLE.test(file)) return runFile(file);
      return inTurn(ALONE.test(file) ? jobs : 1, () => runFile(file));
    }));
    report.summarize(runtime.name);
  };
  await Promise.all(runtimes.map(runOn));
}

/** Lets tasks take so many places at once, in the order in which they come. */
function limiter(places: number): (wanted: number, task: () => Promise<void>) => Promise<void> {
  const waiting: { readonly wanted: number; readonly start: () => void }[] = [];
  const startNext = () => {
    for (let [next] = waiting; next !== undefined && next.wanted <= places; [next] = waiting) {
      waiting.shift();
      places -= next.wanted;
      next.start();
    }
  };
  return async (wanted, task) => {
    await new Promise<void>((start) => {
      waiting.push({ wanted, start });
      startNext();
    });
    try {
      await task();
    } finally {
      places += wanted;
      startNext();
    }
  };
}

/** Ends what was started when the user stops the run, so that it comes to its end by itself. */
function stopOnSignal(): AbortSignal {
  const controller = new AbortController();
  const signals: Deno.Signal[] = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) {
    Deno.addSignalListener(signal, () => {
      controller.abort();
      void stopAll();
    });
  }
  return controller.signal;
}

/** The files below a folder of the repository with this ending, by path. */
async function filesBelow(folder: string, ending: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(join(root, folder))) {
    const path = `${folder}/${name}`;
    if (isDirectory) found.push(...await filesBelow(path, ending));
    else if (name.endsWith(ending)) found.push(path);
  }
  return found.toSorted();
}

Deno.exit(await main() ? 0 : 1);
