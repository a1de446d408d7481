/**
 * A cell of the parity table, as it goes from a test on any runtime to the test runner.
 *
 * @module
 */

/** Who calls whom: the columns. */
export const DIRECTIONS = [
  "Python calls Python",
  "Python calls ours",
  "ours calls Python",
  "ours calls ours",
] as const;

export type Direction = typeof DIRECTIONS[number];

/** `works`, or done in another way that is as good, or wrong. */
export type Mark = "works" | "differs" | "broken";

/** A defect of 0.1.8, shown by the cell in which Python meets Python. */
export interface Defect {
  readonly what: string;
  /** Of which list: those that ours does not repeat, or those of others that it lives with. */
  readonly list: "repeat" | "live";
  /** What ours does, shown by the cells in which ours has a part. */
  readonly instead: string;
}

/** One cell, as a test filled it in on one runtime. */
export interface Cell {
  /** The place of its row, and how many cells there are in all. */
  readonly row: number;
  readonly of: number;
  readonly feature: string;
  readonly direction: Direction;
  readonly mark: Mark;
  readonly says: string;
  readonly runtime: string;
  readonly defects: readonly Defect[];
}
