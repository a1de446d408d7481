/**
 * What runs inside each process of the benchmark, whatever is measured there: it does what the runner asks for on
 * standard input, one line at a time, and answers on standard output. `peers/nuropb_python.py` says the same in Python.
 *
 * @module
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { type Load, type Measured, measureLoad } from "./load.ts";

/** How a service or a caller is to be opened. */
export interface Settings {
  /** The broker, or `memory:`. */
  readonly url: string;
  /** Messages that a service handles at once. */
  readonly concurrency: number;
  /** How many services there are on the mesh. */
  readonly services: number;
  /** How many listen to the events. */
  readonly subscribers: number;
  /** Whether nothing but one request is going to be made. */
  readonly cold: boolean;
  /** Who signs the tokens of callers, and such a token. */
  readonly issuer: { readonly publicKey: JsonWebKey; readonly token: string };
}

/** What is sent, and comes back. */
export interface Payload {
  readonly text: string;
}

/** One unit of work, such as a request with its answer. */
export type Action = (payload: Payload) => Promise<unknown>;

/** A service under measurement. */
export interface Service {
  /** Events that came in so far. */
  readonly received?: () => number;
}

/** A caller under measurement. */
export interface Caller {
  /** What it can do, by name. */
  readonly actions: Readonly<Record<string, Action>>;
}

/** One way to have a service and to call it. */
export interface Program {
  serve(settings: Settings): Promise<Service>;
  connect(settings: Settings): Promise<Caller>;
}

/** What the runner asks for. */
export type Question =
  | { readonly ask: "serve" | "connect"; readonly settings: Settings }
  | { readonly ask: "cold"; readonly settings: Settings; readonly size: number }
  | { readonly ask: "load"; readonly load: Load }
  | { readonly ask: "received"; readonly count: number }
  | { readonly ask: "cpu" };

/** What comes back: what one of them has, by what was asked. */
export interface Answers {
  readonly serve: Record<never, never>;
  readonly connect: Record<never, never>;
  /** How long it took from `connect` to the first answer, in ms. */
  readonly cold: { readonly elapsed: number };
  readonly load: Measured;
  /** When there were as many events as asked for, in ms since the epoch. */
  readonly received: { readonly at: number };
  /** The processor time that the process has used, in µs. */
  readonly cpu: { readonly used: number };
}

/** Before each answer, to tell it from what a library prints. */
export const MARK = "@bench ";

/** Does as the runner says until it closes the standard input. */
export function runProgram(program: Program): void {
  const state: State = { program, service: undefined, caller: undefined };
  const lines = createInterface({ input: process.stdin });
  say({});
  lines.on("line", (line) => {
    const question: Question = JSON.parse(line);
    answer(state, question).then(say, (error) => {
      say({ error: error instanceof Error ? error.stack ?? error.message : String(error) });
    });
  });
  lines.on("close", () => process.exit(0));
}

/** A payload that is this many bytes long as JSON. */
export function payloadOf(size: number): Payload {
  return { text: "x".repeat(size - '{"text":""}'.length) };
}

interface State {
  readonly program: Program;
  service: Service | undefined;
  caller: Caller | undefined;
}

async function answer(state: State, question: Question): Promise<Answers[Question["ask"]]> {
  switch (question.ask) {
    case "serve":
      state.service = await state.program.serve(question.settings);
      return {};
    case "connect":
      state.caller = await state.program.connect(question.settings);
      return {};
    case "cold": {
      const started = performance.now();
      state.caller = await state.program.connect(question.settings);
      await actionOf(state.caller, "request")(payloadOf(question.size));
      return { elapsed: performance.now() - started };
    }
    case "load": {
      const { action, size } = question.load;
      return await measureLoad(question.load, actionOf(state.caller, action), payloadOf(size), cpuTime);
    }
    case "received": {
      const received = state.service?.received ?? (() => 0);
      while (received() < question.count) await new Promise((resolve) => setTimeout(resolve, 1));
      return { at: Date.now() };
    }
    case "cpu":
      return { used: cpuTime() };
  }
}

function actionOf(caller: Caller | undefined, name: string): Action {
  const action = caller?.actions[name];
  if (action === undefined) throw new Error(`There is no ${name} here`);
  return action;
}

function cpuTime(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function say(answer: object): void {
  process.stdout.write(`${MARK}${JSON.stringify(answer)}\n`);
}
