/**
 * Processes that run until they are ended, started by the runner or from within a test, on every runtime.
 *
 * @module
 */
import { spawn } from "node:child_process";
import process from "node:process";

/** A process that runs until it is ended. */
export interface Daemon extends AsyncDisposable {
  readonly pid: number;
  /** Settles when the process has ended. */
  readonly ended: Promise<void>;
  /** What it has written so far. */
  output(): string;
  /** Sends it a signal. */
  signal(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void;
}

/**
 * Becomes the command, and leaves behind a process that kills it when the standard input closes, which happens when
 * its owner closes it and also when the owner itself is killed. Signals to all processes at once, such as Ctrl-C, are
 * left to the owner.
 */
const GUARD = `
  trap '' INT HUP
  exec 3<&0
  (trap '' TERM; cat <&3; kill -KILL $$) >/dev/null 2>&1 &
  exec "$@" </dev/null 3<&-`;

/** Starts a command that is killed when it is disposed of, or when this process ends in whatever way. */
export function startDaemon(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Daemon {
  const child = spawn("/bin/sh", ["-c", GUARD, "sh", command, ...args], { env: { ...process.env, ...env } });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => output += text);
  }
  // The process may be gone already when its input is closed.
  child.stdin.on("error", () => {});
  const pid = child.pid ?? 0;
  let running = true;
  const ended = new Promise<void>((resolve) => {
    const end = () => {
      running = false;
      resolve();
    };
    child.on("exit", end);
    child.on("error", end);
  });
  const signal: Daemon["signal"] = (signal) => {
    // The child's own `kill` closes its input on Deno, whatever the signal.
    if (running) process.kill(pid, signal);
  };
  return {
    pid,
    ended,
    output: () => output,
    signal,
    async [Symbol.asyncDispose]() {
      signal("SIGKILL");
      child.stdin.end();
      await ended;
    },
  };
}
