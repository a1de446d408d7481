/**
 * What a soak came to: as text, and as JSON.
 *
 * @module
 */
import type { Ledger, Row } from "./ledger.ts";
import type { WorkerProcess } from "./worker_process.ts";

/** A fault that is over. */
export interface Recovery {
  readonly kind: string;
  readonly text: string;
  /** From the end of the fault until a request went through each link that it broke, in ms; null for never. */
  readonly milliseconds: number | null;
}

/** How long recovery may take at most, in ms. */
export const LONGEST_RECOVERY_MS = 5_000;

/** How long it may take in the median, in ms. */
const MEDIAN_RECOVERY_MS = 2_000;

/** How much a process may have grown since its warm-up. */
const MOST_GROWTH = 1.3;

/**
 * How many measurements make up the warm-up's: a minute and a half, since Deno's resident memory goes from 92 to 167
 * MiB and back while its heap stays the same.
 */
const WARM_SAMPLES = 6;

/** How many measurements make up the end's. */
const END_SAMPLES = 3;

const COLUMNS: readonly [keyof Row, string][] = [
  ["kind", ""],
  ["sent", "sent"],
  ["confirmed", "confirmed"],
  ["answered", "answered"],
  ["handledOnce", "once"],
  ["handledAgain", "again"],
  ["failed", "failed"],
  ["deadLettered", "dead"],
  ["lost", "lost"],
  ["hung", "hung"],
];

/** What a run came to. */
export interface Summary {
  readonly seed: number;
  readonly seconds: number;
  readonly rows: readonly Row[];
  readonly failures: Readonly<Record<string, number>>;
  readonly letters: Readonly<Record<string, number>>;
  readonly calledAgain: number;
  /** Commands and events that their handler refused, and that are no dead letters, though the broker lived on. */
  readonly refusedWithoutLetter: number;
  /** Those that RabbitMQ lost when it was killed: see the ledger. */
  readonly lettersLostWithBroker: number;
  /** Idempotent requests that one process ran twice. */
  readonly twins: { readonly done: number; readonly running: number };
  readonly recoveries: readonly Recovery[];
  readonly memory: readonly Growth[];
  /** Why it failed; empty when it did not. */
  readonly problems: readonly string[];
}

interface Growth {
  readonly process: string;
  readonly runtime: string;
  readonly aliveSeconds: number;
  readonly startMiB: number;
  readonly endMiB: number;
  readonly startHeapMiB: number;
  readonly endHeapMiB: number;
  /** Resident memory all along, in MiB. */
  readonly series: readonly number[];
}

/** Puts it together. */
export function summarize(
  seed: number,
  seconds: number,
  ledger: Ledger,
  recoveries: readonly Recovery[],
  workers: readonly WorkerProcess[],
): Summary {
  const rows = ledger.rows();
  const memory = workers.map(growthOf).filter((growth) => growth !== undefined);
  const problems = [...ledger.problems];
  const { refusedWithoutLetter, lettersLostWithBroker, twins } = ledger;
  for (const { kind, lost, hung } of rows) {
    if (lost > 0) problems.push(`${lost} lost: ${kind}`);
    if (hung > 0) problems.push(`${hung} hung: ${kind}`);
  }
  if (refusedWithoutLetter > 0) problems.push(`${refusedWithoutLetter} refused, and no dead letters`);
  if (twins.done > 0) {
    problems.push(`${twins.done} idempotent requests ran again in the process that had done them`);
  }
  for (const { text, milliseconds } of recoveries) {
    if (milliseconds !== null && milliseconds <= LONGEST_RECOVERY_MS) continue;
    problems.push(`${text}: ${milliseconds === null ? "never" : `only after ${milliseconds} ms`} back`);
  }
  const middle = medianOf(recoveries);
  if (middle > MEDIAN_RECOVERY_MS) problems.push(`The median of all recoveries is ${middle} ms`);
  for (const { process, startMiB, endMiB } of memory) {
    if (endMiB <= startMiB * MOST_GROWTH) continue;
    problems.push(`${process} grew from ${startMiB} to ${endMiB} MiB`);
  }
  return {
    seed,
    seconds,
    rows,
    failures: Object.fromEntries([...ledger.failures].toSorted()),
    letters: Object.fromEntries([...ledger.letters].toSorted()),
    calledAgain: ledger.totals.calledAgain,
    refusedWithoutLetter,
    lettersLostWithBroker,
    twins: { ...twins },
    recoveries,
    memory,
    problems,
  };
}

function growthOf({ name, plan, memory, started }: WorkerProcess): Growth | undefined {
  if (memory.length < WARM_SAMPLES + END_SAMPLES) return undefined;
  const mebibytes = (bytes: number) => Math.round(bytes / 2 ** 20 * 10) / 10;
  // Runtimes give memory back when they like: what a process once got by with at its end is what it needs.
  const warm = memory.slice(0, WARM_SAMPLES);
  const end = memory.slice(-END_SAMPLES);
  return {
    process: name,
    runtime: plan.runtime,
    aliveSeconds: Math.round((Date.now() - started) / 1_000),
    startMiB: mebibytes(Math.max(...warm.map(({ rss }) => rss))),
    endMiB: mebibytes(Math.min(...end.map(({ rss }) => rss))),
    startHeapMiB: mebibytes(Math.max(...warm.map(({ heap }) => heap))),
    endHeapMiB: mebibytes(Math.min(...end.map(({ heap }) => heap))),
    series: memory.map(({ rss }) => mebibytes(rss)),
  };
}

/** As text. */
export function show(summary: Summary): string {
  const { seed, seconds, rows, failures, letters, recoveries, memory, twins, problems } = summary;
  return [
    `Seed ${seed}, ${seconds} s`,
    "",
    table(COLUMNS.map(([, title]) => title), rows.map((row) => COLUMNS.map(([key]) => `${row[key]}`))),
    "",
    `Called again: ${summary.calledAgain}. Idempotent requests that ran twice in one process: ${twins.done} after ` +
    `the first time, ${twins.running} beside it. Refused without a dead letter: ${summary.refusedWithoutLetter}, ` +
    `and ${summary.lettersLostWithBroker} whose letter was lost when RabbitMQ was killed.`,
    ...list("Failed", failures),
    ...list("Dead letters", letters),
    "",
    recoveryTable(recoveries),
    "",
    table(
      ["process", "runtime", "alive", "MiB warm", "MiB end", "heap warm", "heap end"],
      memory.map((growth) => [
        growth.process,
        growth.runtime,
        `${growth.aliveSeconds} s`,
        ...[growth.startMiB, growth.endMiB, growth.startHeapMiB, growth.endHeapMiB].map((size) =>
          size.toFixed(1)
        ),
      ]),
    ),
    "",
    problems.length === 0 ? "Nothing lost, nothing hung." : `FAILED:\n${shortened(problems).join("\n")}`,
  ].join("\n");
}

function recoveryTable(recoveries: readonly Recovery[]): string {
  const kinds = [...new Set(recoveries.map(({ kind }) => kind))].toSorted();
  const rowOf = (title: string, some: readonly Recovery[]) => {
    if (some.length === 0) return [title, "0", "", ""];
    const worst = Math.max(...some.map(millisecondsOf));
    return [title, `${some.length}`, `${medianOf(some)}`, `${worst}`];
  };
  return table(["fault", "times", "ms median", "ms worst"], [
    ...kinds.map((kind) => rowOf(kind, recoveries.filter((recovery) => recovery.kind === kind))),
    rowOf("all", recoveries),
  ]);
}

/** 0 where there was none. */
function medianOf(recoveries: readonly Recovery[]): number {
  const times = recoveries.map(millisecondsOf).toSorted((one, other) => one - other);
  return times[Math.floor(times.length / 2)] ?? 0;
}

function millisecondsOf({ milliseconds }: Recovery): number {
  return milliseconds ?? Infinity;
}

function list(title: string, counts: Readonly<Record<string, number>>): string[] {
  const entries = Object.entries(counts);
  if (entries.length === 0) return [];
  return [`${title}:`, ...entries.map(([name, count]) => `  ${`${count}`.padStart(7)}  ${name}`)];
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]!.length))
  );
  const line = (cells: readonly string[]) =>
    cells.map((cell, column) => column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))
      .join("  ").trimEnd();
  return [titles, ...rows].map(line).join("\n");
}

/** The first of many. */
function shortened(problems: readonly string[], most = 40): string[] {
  if (problems.length <= most) return [...problems];
  return [...problems.slice(0, most), `… and ${problems.length - most} more`];
}
