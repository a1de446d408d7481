/**
 * The table of permissions in `.github/SECURITY.md`, which the tests give to accounts as it stands there.
 *
 * @module
 */
import { readFile } from "node:fs/promises";

/** What an account may do on a virtual host: regular expressions over names. */
export interface Permissions {
  readonly configure: string;
  readonly write: string;
  readonly read: string;
  /** Over topics: which events it may publish. Absent for all. */
  readonly topicWrite?: string;
  /** Over topic patterns: which events it may subscribe to. Absent for all. */
  readonly topicRead?: string;
}

const HEADER = ["the account", "configure", "write", "read", "topics: write", "topics: read"];

/** The rows of the table, by what their accounts do. */
export async function readRoles(): Promise<ReadonlyMap<string, Permissions>> {
  const page = await readFile(new URL("../../.github/SECURITY.md", import.meta.url), "utf8");
  const rows = page.split("\n").filter((line) => line.startsWith("|")).map(cellsOf);
  const start = rows.findIndex((cells) => HEADER.every((title, index) => cells[index] === title));
  if (start === -1) throw new Error(`There is no table with the columns ${HEADER.join(", ")}`);
  const roles = new Map<string, Permissions>();
  // The row below the titles has but dashes.
  for (const [role, configure, write, read, topicWrite, topicRead] of rows.slice(start + 2)) {
    if (!role || !configure || !write || !read) break;
    roles.set(role, {
      configure,
      write,
      read,
      ...(topicWrite ? { topicWrite } : {}),
      ...(topicRead ? { topicRead } : {}),
    });
  }
  return roles;
}

/** Every way of taking one thing away from what an account may do. */
export function* withLess(permissions: Permissions): Generator<[what: string, less: Permissions]> {
  for (const column of ["configure", "write", "read"] as const) {
    const names = namesIn(permissions[column]);
    for (const name of names) {
      const rest = names.filter((other) => other !== name);
      yield [`${column} ${name}`, { ...permissions, [column]: anyOf(rest) }];
    }
  }
}

/** What one account needs that does what all of these do. */
export function join(all: readonly Permissions[]): Permissions {
  const joined = (column: "configure" | "write" | "read") =>
    anyOf([...new Set(all.flatMap((permissions) => namesIn(permissions[column])))]);
  return { configure: joined("configure"), write: joined("write"), read: joined("read") };
}

/** `^(a|b)$` → `a` and `b`; `^$` is nothing. */
function namesIn(pattern: string): string[] {
  const [, group, single] = /^\^(?:\((.*)\)|(.*))\$$/.exec(pattern) ?? [];
  if (group !== undefined) return group.split("|");
  if (single === undefined) throw new Error(`${pattern} must be ^name$ or ^(one|other)$`);
  return single === "" ? [] : [single];
}

function anyOf(names: readonly string[]): string {
  return names.length > 1 ? `^(${names.join("|")})$` : `^${names.join("")}$`;
}

/** The cells of a row: what is code in them is taken as it is, but for the bars, which Markdown wants escaped. */
function cellsOf(row: string): string[] {
  return row.split(/(?<!\\)\|/).slice(1, -1).map((cell) =>
    cell.trim().replaceAll("\\|", "|").replace(/^`(.*)`$/, "$1")
  );
}
