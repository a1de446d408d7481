/**
 * The parity table in `tests/interop/README.md`: gathered from the cells that the tests filled in, and written by
 * the test runner.
 *
 * @module
 */
import { join } from "node:path";
import { type Cell, type Direction, DIRECTIONS, type Mark } from "../interop/parity_cell.ts";
import type { Report } from "./report.ts";
import { type RuntimeName, RUNTIMES } from "./runtimes.ts";

/** The one test file that fills it in. */
export const PARITY_TEST = "tests/interop/parity_test.ts";

const README = "tests/interop/README.md";
const SIGNS: Readonly<Record<Mark, string>> = { works: "✓", differs: "≈", broken: "✗" };
/**
 * Writes the table from the cells in this folder, after a run on every runtime; with `compare` it must be there
 * already, or the run has failed. Without any cell this machine cannot run the tests, and the table stays.
 */
export async function writeParity(
  root: string,
  folder: string,
  compare: boolean,
  report: Report,
): Promise<void> {
  try {
    const cells = await readCells(folder);
    const [first] = cells;
    if (first === undefined) return;
    const expected = first.of * RUNTIMES.length;
    if (cells.length !== expected) {
      return report.fail(
        README,
        `It stays as it was: only ${cells.length} of ${expected} tests filled in theirs`,
      );
    }
    const text = await formatted(root, pageOf(rowsOf(cells)));
    const path = join(root, README);
    const before = await Deno.readTextFile(path).catch(() => "");
    if (before === text) return;
    if (compare) report.fail(README, `${README} is not what the run gave: run the tests and commit it`);
    else await Deno.writeTextFile(path, text);
  } catch (error) {
    report.fail(README, error instanceof Error ? error.message : String(error));
  }
}

interface Row {
  readonly feature: string;
  /** By direction, the cells of each runtime. */
  readonly cells: ReadonlyMap<Direction, readonly Cell[]>;
}

async function readCells(folder: string): Promise<Cell[]> {
  const texts = RUNTIMES.map((name) => Deno.readTextFile(join(folder, `${name}.jsonl`)).catch(() => ""));
  const lines = (await Promise.all(texts)).join("").split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as Cell);
}

function rowsOf(cells: readonly Cell[]): Row[] {
  const rows = Map.groupBy(cells.toSorted((one, other) => one.row - other.row), ({ feature }) => feature);
  return [...rows].map(([feature, its]) => ({
    feature,
    cells: Map.groupBy(its, ({ direction }) => direction),
  }));
}

function pageOf(rows: readonly Row[]): string {
  const features = rows.filter(({ cells }) => cells.size === DIRECTIONS.length);
  const defects = (list: "repeat" | "live") =>
    rows.flatMap((row) => {
      const [first] = [...row.cells.values()].flat();
      return (first?.defects ?? []).filter((one) => one.list === list).map((one) => [
        one.what,
        cellOf(row, "Python calls Python"),
        one.instead,
        row.feature,
      ]);
    });
  const table = (head: readonly string[], lines: readonly (readonly string[])[]) =>
    [head, head.map(() => "---"), ...lines].map((line) => `| ${line.join(" | ")} |`).join("\n");
  return `<!-- Written by \`deno task test\`: do not edit. -->

# Beside NuroPb 0.1.8

What NuroPb 0.1.8 can do, tried by a Python service and one of ours against a Python caller and one of ours.
Every cell is a test in \`${PARITY_TEST}\`, which passed on ${namesOf(RUNTIMES)}, beside
\`nuropb==0.1.8\` and a live RabbitMQ; what it says is what the test saw.

${SIGNS.works} works. ${SIGNS.differs} does it in another way. ${SIGNS.broken} does not do it.

${
    table(
      ["", ...DIRECTIONS],
      features.map((row) => [row.feature, ...DIRECTIONS.map((direction) => cellOf(row, direction))]),
    )
  }

## Defects that ours does not repeat

Each is shown by the tests of this name; what Python does is what they saw.

${table(["defect of 0.1.8", "Python", "ours", "test"], defects("repeat"))}

## Defects that ours lives with

They stay in Python's services and callers, which others run.

${table(["defect of 0.1.8", "Python", "ours", "test"], defects("live"))}
`;
}

/** What a cell says: once, where it says the same on every runtime. */
function cellOf({ cells }: Row, direction: Direction): string {
  const groups = Map.groupBy(
    cells.get(direction) ?? [],
    ({ mark, says }) => `${SIGNS[mark]} ${says}`.trim(),
  );
  if (groups.size <= 1) return [...groups.keys()].join("");
  return [...groups].map(([text, its]) => {
    return `${text} (${namesOf(RUNTIMES.filter((name) => its.some(({ runtime }) => runtime === name)))})`;
  }).join("; ");
}

/** `Deno, Bun, Node 20, 22, 24` */
function namesOf(runtimes: readonly RuntimeName[]): string {
  const versions = runtimes.filter((name) => name.startsWith("node")).map((name) =>
    name.slice("node".length)
  );
  const others = runtimes.filter((name) => !name.startsWith("node"));
  const names = others.map((name) => name.charAt(0).toUpperCase() + name.slice(1));
  return [...names, ...versions.map((version, index) => index === 0 ? `Node ${version}` : version)].join(
    ", ",
  );
}

/** As `deno fmt --check` wants it. */
async function formatted(root: string, text: string): Promise<string> {
  const options = { args: ["fmt", "--ext", "md", "-"], cwd: root };
  const child = new Deno.Command(Deno.execPath(), { ...options, stdin: "piped", stdout: "piped" }).spawn();
  const input = new Blob([text]).stream().pipeTo(child.stdin);
  const [{ code, stdout }] = await Promise.all([child.output(), input]);
  if (code !== 0) throw new Error(`deno fmt ended with code ${code}`);
  return new TextDecoder().decode(stdout);
}
