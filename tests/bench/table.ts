/**
 * Results as tables in text.
 *
 * @module
 */
import type { Row, Sample } from "./run.ts";
import { median } from "./statistics.ts";

type Figure = Exclude<keyof Sample, "turn">;

const NAME_WIDTH = 18;
const COLUMN_WIDTH = 12;
const HEADINGS = ["per s", "of limit", "of first", "p50 ms", "p99 ms", "CPU µs", "of limit"];

/**
 * A table for each variant and load, with a line for each contestant. `of limit` is beside the limit program on the
 * same runtime, `of first` beside the same contestant in the scenario's first table with as many in flight.
 */
export function tablesOf(rows: readonly Row[]): string[] {
  const lines: string[] = [];
  for (const [title, group] of Map.groupBy(rows, titleOf)) {
    lines.push("", title, line("", HEADINGS));
    for (const row of group) {
      const { rate, p50, p99, cpu } = middle(row);
      const first = rows.find((other) =>
        other.contestant === row.contestant && other.load.inFlight === row.load.inFlight &&
        other.load.size === row.load.size
      );
      const limit = limitFor(row, group);
      lines.push(line(row.contestant, [
        rate.toFixed(0),
        limit === undefined ? "" : ratio(row, limit).toFixed(2),
        first === undefined || first === row ? "" : ratio(row, first).toFixed(2),
        p50.toFixed(2),
        p99.toFixed(2),
        cpu.toFixed(0),
        limit === undefined ? "" : ratio(row, limit, "cpu").toFixed(2),
      ]));
    }
  }
  return lines;
}

/** The medians of a row's turns. */
export function middle({ samples }: Row): Record<Figure, number> {
  const of = (figure: Figure) => median(samples.map((sample) => sample[figure]));
  return { rate: of("rate"), p50: of("p50"), p99: of("p99"), cpu: of("cpu") };
}

/** The median of the turns' ratios, each of what was measured in the same turn. */
export function ratio(row: Row, other: Row, figure: Figure = "rate"): number {
  return median(row.samples.flatMap((sample) => {
    const beside = other.samples.find(({ turn }) => turn === sample.turn);
    return beside === undefined ? [] : [sample[figure] / beside[figure]];
  }));
}

/** The limit program's row: on the same runtime, or on the first Node for those without one. */
function limitFor({ contestant }: Row, group: readonly Row[]): Row | undefined {
  const runtime = contestant.split(" ")[1] ?? "node20";
  return group.find((row) => row.contestant === `limit ${runtime}`);
}

function titleOf({ scenario, variant, load: { action, inFlight, size } }: Row): string {
  return [scenario, variant, `${action}, ${inFlight} in flight, ${size} B`].filter((part) => part !== "")
    .join(": ");
}

function line(name: string, columns: readonly string[]): string {
  return `  ${name.padEnd(NAME_WIDTH)}${columns.map((column) => column.padStart(COLUMN_WIDTH)).join("")}`;
}
