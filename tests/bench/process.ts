/**
 * The runner's side of a process under measurement.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { type Answers, MARK, type Question } from "./program.ts";

/** A command with its arguments and its part of the environment. */
export interface CommandLine {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** How long one answer may take, in ms. */
const ANSWER_TIMEOUT = 90_000;
/** How long it may take to end by itself, in ms. */
const GRACE = 5_000;
/** How much of what it prints is kept for an error, in characters. */
const KEPT = 4_000;

/** A process that runs a program of the benchmark. It ends by itself when the runner does. */
export class ProgramProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #name: string;
  #output = "";
  #answered: (answer: string) => void = () => {};
  #failed: (error: Error) => void = () => {};
  #dead: Error | undefined;

  /** Resolves when it takes questions. */
  static async start(name: string, { command, args, env }: CommandLine): Promise<ProgramProcess> {
    const child = spawn(command, [...args], { env: { ...process.env, NO_COLOR: "1", ...env } });
    const started = new ProgramProcess(name, child);
    try {
      await started.#answer(() => {});
      return started;
    } catch (error) {
      await started[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(name: string, child: ChildProcess) {
    this.#name = name;
    this.#child = child;
    const keep = (line: string) => this.#output = `${this.#output}${line}\n`.slice(-KEPT);
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (line.startsWith(MARK)) this.#answered(line.slice(MARK.length));
        else keep(line);
      });
    }
    child.stderr?.on("data", (bytes) => keep(String(bytes).trimEnd()));
    child.stdin?.on("error", () => {});
    child.on("error", (error) => this.#end(error));
    child.on("close", (code) => this.#end(new Error(`it ended with code ${code}`)));
  }

  /** Has it do something. One question at a time. */
  async ask<Asked extends Question>(question: Asked): Promise<Answers[Asked["ask"]]> {
    const answer = JSON.parse(
      await this.#answer(() => this.#child.stdin?.write(`${JSON.stringify(question)}\n`)),
    );
    if (typeof answer.error === "string") throw this.#explain(answer.error);
    return answer;
  }

  /** Asks it to end, and ends it when it does not. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#dead !== undefined) return;
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), GRACE);
    await ended;
    clearTimeout(timer);
  }

  async #answer(send: () => void): Promise<string> {
    if (this.#dead !== undefined) throw this.#dead;
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      return await new Promise<string>((resolve, reject) => {
        this.#answered = resolve;
        this.#failed = reject;
        timer = setTimeout(() => reject(this.#explain("it did not answer in time")), ANSWER_TIMEOUT);
        send();
      });
    } finally {
      clearTimeout(timer);
    }
  }

  #end(error: Error): void {
    this.#dead ??= this.#explain(error.message);
    this.#failed(this.#dead);
  }

  #explain(reason: string): Error {
    return new Error(`${this.#name}: ${reason}\n${this.#output.trim()}`);
  }
}
