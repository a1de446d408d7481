/**
 * Scripts in processes of their own, on the runtime under test.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { script } from "../support/env.ts";
import { within } from "./stage.ts";

/** A running script. */
export interface Child {
  readonly pid: number;
  /** Resolves when the script has written this line. */
  line(text: string): Promise<void>;
  /** How it ended, and what it wrote. */
  readonly ended: Promise<{ readonly code: number | null; readonly output: string }>;
  /** Ends it at once. */
  kill(): void;
}

/** How long a script may take to start, in ms. */
const PATIENCE = 20_000;

/** Starts a script of `tests/conformance/`. */
export function start(name: string, ...args: string[]): Child {
  const { command, args: own } = script(`conformance/${name}`);
  const child = spawn(command, [...own, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const listeners = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      output += text;
      for (const listener of listeners) listener();
    });
  }
  const ended = new Promise<{ code: number | null; output: string }>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
  const line = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (output.split("\n").includes(text)) resolve();
      };
      listeners.add(look);
      look();
      ended.then(() => reject(new Error(`It ended without saying ${text}:\n${output}`)), reject);
    });
  return {
    pid: child.pid ?? 0,
    line: (text) => within(line(text), PATIENCE),
    ended,
    kill: () => void child.kill("SIGKILL"),
  };
}
