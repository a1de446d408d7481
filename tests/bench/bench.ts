/**
 * Measures ours beside the limit program and beside other libraries, over brokers of its own.
 *
 * deno task bench [--quick] [--only SCENARIO,CONTESTANT…] [--runtime node20,deno,bun,node24,python]
 *   [--rounds N] [--seconds N]
 *
 * A run of everything writes `tests/bench/results/`, any other one `.cache/bench/results/`.
 *
 * @module
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { must, stopAll } from "../support/processes.ts";
import { Progress } from "../support/progress.ts";
import { chartOf } from "./chart.ts";
import { type ColdRow, coldTable, ROUND_TRIP, runCold } from "./cold.ts";
import { readCommandLine } from "./command_line.ts";
import { checkAll, checkTable } from "./must_hold.ts";
import { circumstancesOf, type Results, resultsOf } from "./results.ts";
import { type Row, runScenario, type Watcher } from "./run.ts";
import { prepareStage } from "./stage.ts";
import { tablesOf } from "./table.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

async function main(): Promise<boolean> {
  const { scenarios, cold, contestants, timing, full } = readCommandLine();
  using progress = new Progress();
  const { print } = progress;
  let failed = false;
  const watcher: Watcher = {
    during: progress.during.bind(progress),
    failed(what, error) {
      failed = true;
      print(`FAILED  ${what}: ${error instanceof Error ? error.message : error}`);
    },
  };
  const started = Date.now();
  await using stage = await progress.during("preparation", prepareStage(root, contestants, watcher.failed));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(
      signal,
      () => void stage[Symbol.asyncDispose]().then(stopAll).then(() => Deno.exit(1)),
    );
  }
  const circumstances = await circumstancesOf(root, stage, timing, Deno.args);
  const rows: Row[] = [];
  for (const scenario of scenarios) {
    const measured = await runScenario(scenario, stage, timing, watcher);
    rows.push(...measured);
    [`\n${scenario.description}`, ...tablesOf(measured)].forEach(print);
  }
  let called: ColdRow[] = [];
  if (cold) {
    called = await runCold(stage, timing.rounds, watcher);
    [`\nCold calls: connect and first answer, ${ROUND_TRIP} ms away`, ...coldTable(called)].forEach(print);
  }
  const checked = checkAll(rows, called).filter(({ figure }) => full || figure !== undefined);
  if (checked.length > 0) ["\nWhat must hold", ...checkTable(checked)].forEach(print);
  const folder = join(root, full ? "tests/bench/results" : ".cache/bench/results");
  await write(folder, resultsOf(circumstances, rows, called, checked));
  // The chart is laid out for people, and is checked like any other file of the repository.
  if (full) await must(Deno.execPath(), ["fmt", "--quiet", folder], { cwd: root });
  print(`\n${((Date.now() - started) / 1_000).toFixed(0)} s, written to ${folder}`);
  return !failed && (!full || checked.every(({ holds }) => holds));
}

async function write(folder: string, results: Results): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "bench.json"), `${JSON.stringify(results, null, 2)}\n`);
  const chart = chartOf(results);
  if (chart !== undefined) await writeFile(join(folder, "bench.svg"), chart);
}

Deno.exit(await main() ? 0 : 1);
