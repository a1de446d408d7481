/**
 * Stands in for `node:util` where there is no Node. It shows all that is in a value, hidden or not, since tests look
 * for secrets in it.
 *
 * @module
 */

/** A value with everything in it, as text. */
export function inspect(value: unknown, { depth = 9 }: { depth?: number } = {}): string {
  return show(value, depth, new Set());
}

function show(value: unknown, depth: number, around: ReadonlySet<unknown>): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value !== "object" || value === null) return String(value);
  if (around.has(value)) return "[Circular]";
  const within = new Set([...around, value]);
  const name = value.constructor?.name ?? "null";
  if (depth < 0) return `[${name}]`;
  const entries = value instanceof Map || value instanceof Set ? [show([...value], depth - 1, within)] : [];
  for (const key of Reflect.ownKeys(value)) {
    const { value: content } = Object.getOwnPropertyDescriptor(value, key) ?? {};
    entries.push(`${String(key)}: ${show(content, depth - 1, within)}`);
  }
  const text = value instanceof Error || value instanceof Date || value instanceof RegExp ? ` ${value}` : "";
  return `${name}${text} { ${entries.join(", ")} }`;
}
