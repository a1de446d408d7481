/**
 * What a cell of the parity table is, and how a test hands it to the test runner, which writes the table.
 *
 * @module
 */
import assert from "node:assert/strict";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { parityFolder, runtime } from "../support/env.ts";
import type { Cell, Defect, Direction, Mark } from "./parity_cell.ts";
import type { Side } from "./parity_stage.ts";

/** What is seen in place of what the feature promises. */
export interface Otherwise {
  readonly mark: Mark;
  /** What the cell says. */
  readonly says: string;
  /** What the test must see for that. */
  readonly seen: unknown;
}

/** A feature of 0.1.8. */
export interface Feature {
  readonly name: string;
  /** Tries it, and gives what there was to see. */
  readonly see: (side: Side) => Promise<unknown>;
  /** What there is to see when all is well. */
  readonly works: unknown;
  /** The cells where something else is to be seen. */
  readonly but?: Readonly<Partial<Record<Direction, Otherwise>>>;
  readonly defects?: readonly Defect[];
  /** Given when there are not four. */
  readonly directions?: readonly Direction[];
}

/** Python falls short of the feature in this way. */
export function broken(says: string, seen: unknown): Otherwise {
  return { mark: "broken", says, seen };
}

/** It is another way to do it, and as good. */
export function differs(says: string, seen: unknown): Otherwise {
  return { mark: "differs", says, seen };
}

/** Whatever a Python service does, whoever calls it. */
export function inPython(otherwise: Otherwise): Partial<Record<Direction, Otherwise>> {
  return { "Python calls Python": otherwise, "ours calls Python": otherwise };
}

/** Whatever a Python caller does, whomever it calls. */
export function byPython(otherwise: Otherwise): Partial<Record<Direction, Otherwise>> {
  return { "Python calls Python": otherwise, "Python calls ours": otherwise };
}

/** Whatever a service of ours does, whoever calls it. */
export function inOurs(otherwise: Otherwise): Partial<Record<Direction, Otherwise>> {
  return { "Python calls ours": otherwise, "ours calls ours": otherwise };
}

/** Tries one cell, and records what it says only when it is what is expected. */
export async function fillCell(
  { name, see, works, but = {}, defects = [] }: Feature,
  { row, of }: Pick<Cell, "row" | "of">,
  direction: Direction,
  side: Side,
): Promise<void> {
  const expected: Otherwise = but[direction] ?? { mark: "works", says: "", seen: works };
  assert.deepEqual(await see(side), expected.seen);
  const { mark, says } = expected;
  const cell: Cell = { row, of, feature: name, direction, mark, says, runtime: runtime(), defects };
  const folder = parityFolder();
  if (folder === undefined) return;
  // A file for each runtime, as they run at once.
  appendFileSync(join(folder, `${runtime()}.jsonl`), `${JSON.stringify(cell)}\n`);
}
