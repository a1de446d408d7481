/**
 * Checks params with whatever Standard Schema library their schema comes from.
 *
 * @module
 */
import { NuropbValidationError } from "../errors.ts";
import type { SchemaIssue, StandardSchema } from "../options.ts";

/**
 * The params as the schema makes them: with its defaults, and without what it strips.
 *
 * @param target The method, for the error: `orders.create`.
 * @throws {NuropbValidationError} naming the path of each fault.
 */
export async function validateParams(
  target: string,
  schema: StandardSchema,
  params: unknown,
): Promise<unknown> {
  const result = await schema["~standard"].validate(params);
  if (result.issues === undefined) return result.value;
  const faults = result.issues.map(({ path, message }) => `${pathOf(path)}: ${message}`);
  throw new NuropbValidationError(`The params of ${target} are not valid: ${faults.join("; ")}`);
}

function pathOf(path: SchemaIssue["path"]): string {
  const keys = (path ?? []).map((segment) => String(typeof segment === "object" ? segment.key : segment));
  return keys.length === 0 ? "params" : keys.join(".");
}
