/**
 * A service and a caller side by side, and the memory that each holds after so many requests.
 *
 * @module
 */
import { spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import type { ScriptCommand } from "../support/env.ts";
import { measuringFlags } from "./memory.ts";
import type { Memory } from "./memory.ts";
import { roles } from "./memory_program.ts";
import type { Role } from "./memory_program.ts";

/** What both hold. */
export type MemoryOfBoth = Readonly<Record<Role, Memory>>;

/**
 * Sends requests in steps, with a measurement after each.
 *
 * @param program Runs one role, which it gets as an argument before the url.
 * @param steps How many requests each step has.
 */
export async function* measureGrowth(
  program: ScriptCommand,
  url: string,
  steps: Iterable<number>,
): AsyncGenerator<MemoryOfBoth> {
  const [service, caller] = await Promise.all(roles.map((role) => start(program, role, url)));
  try {
    for (const count of steps) {
      const held = await caller!.ask(count);
      yield { caller: held, service: await service!.ask(0) };
    }
    await caller!.end();
    await service!.end();
  } finally {
    caller!.kill();
    service!.kill();
  }
}

interface Process {
  ask(count: number): Promise<Memory>;
  end(): Promise<void>;
  kill(): void;
}

async function start({ command, args }: ScriptCommand, role: Role, url: string): Promise<Process> {
  const [subcommand, ...rest] = args;
  // Deno takes flags after `run`, the others before the file.
  const all = "Deno" in globalThis
    ? [subcommand!, ...measuringFlags(), ...rest]
    : [...measuringFlags(), ...args];
  const child = spawn(command, [...all, role, url], {
    stdio: ["pipe", "pipe", "inherit"],
    // glibc keeps what is freed for itself; from this size on it goes back to the system.
    env: { ...process.env, MALLOC_MMAP_THRESHOLD_: "32768" },
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`The ${role} ended with code ${code}`));
    });
  });
  ended.catch(() => {});
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (): Promise<Memory> => {
    const { done, value } = await lines.next();
    if (done) {
      await ended;
      throw new Error(`The ${role} ended`);
    }
    return JSON.parse(value);
  };
  await answer();
  return {
    ask(count) {
      child.stdin.write(`${count}\n`);
      return answer();
    },
    end() {
      child.stdin.end();
      return ended;
    },
    kill: () => void child.kill("SIGKILL"),
  };
}
