/**
 * Scripts of this folder in processes of their own, on the runtime under test.
 *
 * @module
 */
import { execFile } from "node:child_process";
import process from "node:process";
import { script } from "../support/env.ts";

/** How a script ended. */
export interface Ended {
  readonly code: number | string;
  /** What it wrote to either of its outputs. */
  readonly output: string;
}

/**
 * Runs a script to its end.
 *
 * @param name Its file. @param argument A value for it, handed over as JSON. @param env For it alone.
 */
export function runScript(name: string, argument: unknown, env: Record<string, string> = {}): Promise<Ended> {
  const { command, args } = script(`security/${name}`);
  return new Promise((resolve) => {
    execFile(
      command,
      [...args, JSON.stringify(argument)],
      { env: { ...process.env, ...env }, timeout: 45_000, maxBuffer: 2 ** 28 },
      (error, output, errors) =>
        resolve({ code: error?.code ?? (error ? "ended" : 0), output: output + errors }),
    );
  });
}
