/**
 * One process of the soak, behind a fault proxy of its own, as the orchestrator sees it.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { openSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { FaultProxy } from "../faults/fault_proxy.ts";
import { JournalReader } from "./journal_reader.ts";
import type { Ledger } from "./ledger.ts";
import type { WorkerConfig } from "./worker.ts";

/** What a process is started as. */
export interface WorkerPlan {
  readonly name: string;
  readonly role: "service" | "caller";
  readonly runtime: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly config: Omit<WorkerConfig, "journal" | "seed">;
}

/** Memory in bytes. */
export interface Memory {
  readonly rss: number;
  readonly heap: number;
}

/** How long a process may take to close all that it has, in ms. */
const CLOSE_TIMEOUT_MS = 45_000;

/** One process, and those that come after it under the same name. */
export class WorkerProcess {
  /** Its memory since the warm-up, in the order of time. */
  readonly memory: Memory[] = [];
  /** When it was started last, in ms since the epoch. */
  started = 0;
  readonly log: string;
  readonly #journal: string;
  readonly #reader: JournalReader;
  readonly #ledger: Ledger;
  readonly #logFile: number;
  #child: ChildProcess | undefined;
  #ended: Promise<string> = Promise.resolve("not started");
  #isToEnd = true;
  #starts = 0;
  readonly #waiting = new Map<string, (time: number) => void>();

  /** @param folder For its lines and its log. */
  constructor(readonly plan: WorkerPlan, readonly proxy: FaultProxy, folder: string, ledger: Ledger) {
    this.#ledger = ledger;
    this.log = join(folder, `${plan.name}.log`);
    this.#logFile = openSync(this.log, "a");
    this.#journal = join(folder, `${plan.name}.journal`);
    this.#reader = new JournalReader(this.#journal, (line) => this.#take(line));
  }

  /** Its name, for the reader. */
  get name(): string {
    return this.plan.name;
  }

  /** Reads what it has written since. */
  read(): void {
    this.#reader.read();
  }

  /** Starts it, and resolves with the time at which its program began to run. */
  async start(seed: number): Promise<number> {
    const { command, args, config } = this.plan;
    this.started = Date.now();
    this.memory.length = 0;
    this.#isToEnd = false;
    this.#starts++;
    const begun = new Promise<number>((resolve) => this.#waiting.set("o", resolve));
    const child = spawn(command, args, {
      stdio: ["pipe", this.#logFile, this.#logFile],
      // Ctrl-C is the orchestrator's own.
      detached: true,
    });
    this.#child = child;
    // It may be killed while it is being told something.
    child.stdin?.on("error", () => {});
    this.#ended = new Promise((resolve) => {
      child.on("error", (error) => resolve(error.message));
      child.on("exit", (code, signal) => resolve(`${code ?? signal}`));
    });
    void this.#ended.then((how) => {
      if (child === this.#child && !this.#isToEnd) {
        this.#ledger.problems.push(`${this.name} ended by itself: ${how}`);
        this.start(seed + this.#starts);
      }
    });
    this.tell(JSON.stringify({ ...config, journal: this.#journal, seed } satisfies WorkerConfig));
    return await begun;
  }

  /** Resolves when all that it serves is up; to be asked as soon as it is started. */
  ready(): Promise<number> {
    return new Promise((resolve) => this.#waiting.set("b", resolve));
  }

  /** Says something to it. */
  tell(line: string): void {
    this.#child?.stdin?.write(`${line}\n`);
  }

  /** Has it ask itself over its own link until it answers, and resolves with the time of that. */
  probe(number: number): Promise<number> {
    const answered = new Promise<number>((resolve) => this.#waiting.set(`p ${number}`, resolve));
    this.tell(`probe ${number}`);
    return answered;
  }

  /** Ends it at once. */
  async kill(): Promise<void> {
    this.#isToEnd = true;
    this.#signal("SIGKILL");
    await this.#ended;
  }

  /** Has it close all that it has, by a signal or by word, and end with code 0. */
  async close(by: "SIGTERM" | "word"): Promise<void> {
    this.#isToEnd = true;
    if (by === "word") this.tell("stop");
    else this.#signal("SIGTERM");
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve(`not within ${CLOSE_TIMEOUT_MS} ms`), CLOSE_TIMEOUT_MS);
    });
    const how = await Promise.race([this.#ended, timeout]);
    clearTimeout(timer);
    if (how === "0") return;
    this.#ledger.problems.push(`${this.name} was to close, and ended: ${how}`);
    await this.kill();
  }

  /** Not by the child's own `kill`, after which Deno tells of that signal, however the child ended. */
  #signal(signal: "SIGKILL" | "SIGTERM"): void {
    const { pid, exitCode, signalCode } = this.#child ?? {};
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(pid, signal);
  }

  #take(line: string): void {
    const [letter, first = "", second = ""] = line.split(" ");
    if (letter === "o") return this.#arrived("o", Number(first));
    if (letter === "b") return this.#arrived("b", Date.now());
    if (letter === "p") return this.#arrived(`p ${first}`, Number(second));
    if (letter === "y") {
      this.memory.push({ rss: Number(first), heap: Number(second) });
      return;
    }
    this.#ledger.read(this.name, line);
  }

  #arrived(what: string, time: number): void {
    this.#waiting.get(what)?.(time);
    this.#waiting.delete(what);
  }
}
