/**
 * A Python process with a NuroPb 0.1.8 service and client (`peer.py`), and how to talk to it.
 *
 * @module
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { managementUrl, python } from "../support/env.ts";

/** How to start a peer. */
export interface PeerOptions {
  /** The broker. The virtual host may be empty: the peer declares what it needs. */
  readonly url: string;
  /** The name of its service. */
  readonly service: string;
  /** The topic patterns that its service listens to. */
  readonly events?: readonly string[];
  /** Whether `nuropb_describe` raises, as it does for annotations that are texts. */
  readonly undescribable?: boolean;
}

/** What goes with a call of the Python client. */
export interface PythonCallOptions {
  /** `null` is Python's `None`, which its own services take. */
  readonly context?: Record<string, unknown> | null;
  /** In ms. Python's default is an hour. */
  readonly ttl?: number;
  readonly traceId?: string;
  /** Python asks for it call by call, and must have described the service before. */
  readonly encrypted?: boolean;
}

/** A response as NuroPb gives it to a Python caller. */
export interface PythonResponse {
  readonly result: unknown;
  readonly error: { readonly error: string; readonly description: string } | null;
  readonly correlation_id: string;
  readonly trace_id: string | null;
  readonly context: Record<string, unknown>;
  readonly warning: string | null;
}

/** A message that came in at the Python service or client. */
export interface Received {
  readonly type: "request" | "command" | "event" | "response";
  readonly trace_id: string | null;
  readonly correlation_id: string;
  readonly ttl: string | null;
  /** Whether it came encrypted. The payload is plain in any case. */
  readonly encrypted: boolean;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** What a Python caller makes of a service's description. */
export interface PythonDescription {
  readonly info: Readonly<Record<string, unknown>>;
  /** By method, whether the Python client would encrypt. */
  readonly encrypted: Readonly<Record<string, boolean>>;
  readonly has_public_key: boolean;
}

/** What the Python client raised. */
export class PythonError extends Error {
  override readonly name = "PythonError";
  /** The class of the exception in Python. */
  readonly type: string;

  constructor(type: string, description: string) {
    super(description);
    this.type = type;
  }
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
  readonly timer: ReturnType<typeof setTimeout>;
}

interface Answer {
  readonly id?: number;
  readonly ready?: boolean;
  readonly ok?: unknown;
  readonly error?: { readonly name: string; readonly description: string };
}

const START_MS = 30_000;
const ANSWER_MS = 20_000;
const GOODBYE_MS = 5_000;
const READY = 0;

/** A running peer. */
export class PythonPeer implements AsyncDisposable {
  /** The name of its service. */
  readonly service: string;

  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<void>;
  readonly #pending = new Map<number, Pending>();
  #errors = "";
  #last = READY;
  #over = false;

  private constructor({ url, service, events = [], undescribable = false }: PeerOptions) {
    this.service = service;
    const { protocol, host } = new URL(managementUrl() ?? "http://none");
    const args = [
      fileURLToPath(new URL("./peer.py", import.meta.url)),
      ...["--url", url],
      ...["--service", service],
      ...(managementUrl() === undefined ? [] : ["--management", `${protocol}//guest:guest@${host}/api`]),
      ...events.flatMap((pattern) => ["--event", pattern]),
      ...(undescribable ? ["--undescribable"] : []),
    ];
    this.#child = spawn(python() ?? "python3", args, {
      env: { ...process.env, PYTHONUNBUFFERED: "1", PYTHONDONTWRITEBYTECODE: "1" },
    });
    this.#child.stderr.setEncoding("utf8");
    this.#child.stderr.on("data", (text: string) => this.#errors = (this.#errors + text).slice(-8_000));
    // Writing to a process that has ended is told by its end.
    this.#child.stdin.on("error", () => {});
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#read(line));
    this.#ended = new Promise((resolve) => {
      const end = (what: string) => {
        this.#over = true;
        for (const id of this.#pending.keys()) this.#take(id)?.reject(this.#failure(what));
        resolve();
      };
      this.#child.on("error", (error) => end(`could not be started: ${error.message}`));
      this.#child.on("close", (code, signal) => end(`ended with ${signal ?? `code ${code}`}`));
    });
  }

  /** Starts a peer, and resolves when its service and its client consume. */
  static async start(options: PeerOptions): Promise<PythonPeer> {
    const peer = new PythonPeer(options);
    try {
      await peer.#answerTo(READY, "start", START_MS);
      return peer;
    } catch (error) {
      await peer.close();
      throw error;
    }
  }

  /** What the Python client's `request` gives. @throws {PythonError} with what it raises. */
  request(
    service: string,
    method: string,
    params: object = {},
    options?: PythonCallOptions,
  ): Promise<unknown> {
    return this.#ask("request", { service, method, params, raw: false, ...wire(options) });
  }

  /** The whole response: the Python client tells an error's name there alone. */
  async requestRaw(
    service: string,
    method: string,
    params: object = {},
    options?: PythonCallOptions,
  ): Promise<PythonResponse> {
    const response = await this.#ask("request", { service, method, params, raw: true, ...wire(options) });
    return response as PythonResponse;
  }

  /** Sends a command. Python does not wait for anything. */
  async command(service: string, method: string, params: object, options?: PythonCallOptions): Promise<void> {
    await this.#ask("command", { service, method, params, ...wire(options) });
  }

  /** Publishes an event. Python does not wait for anything. */
  async publish(topic: string, event: unknown, options?: PythonCallOptions): Promise<void> {
    await this.#ask("publish", { topic, event, ...wire(options) });
  }

  /** Asks a service for its description, each time anew. */
  async describe(service: string): Promise<PythonDescription> {
    return await this.#ask("describe", { service }) as PythonDescription;
  }

  /** Runs NuroPb's `configure_mesh`. */
  async configureMesh(): Promise<void> {
    await this.#ask("configure", {});
  }

  /** The messages of this trace that the Python service has got so far. */
  async arrivals(traceId: string): Promise<Received[]> {
    return await this.#ask("arrivals", { trace_id: traceId }) as Received[];
  }

  /** The responses of this trace that the Python client has got so far, the surplus ones too. */
  async answers(traceId: string): Promise<Received[]> {
    return await this.#ask("answers", { trace_id: traceId }) as Received[];
  }

  /** The client's `request`, with the result as Python shows it: for what JSON does not bring here as it is. */
  async text(service: string, method: string, params: object = {}): Promise<string> {
    return await this.#ask("text", { service, method, params, ...wire() }) as string;
  }

  /** Asks a peer for something of its inner life: `refresh`, `settings`, `pending`… */
  inspect(what: string, fields: Record<string, unknown> = {}): Promise<unknown> {
    return this.#ask(what, fields);
  }

  /** Ends it, by force if need be. Never rejects. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), GOODBYE_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #ask(op: string, fields: Record<string, unknown>): Promise<unknown> {
    const id = ++this.#last;
    const answer = this.#answerTo(id, op, ANSWER_MS);
    if (!this.#over) this.#child.stdin.write(`${JSON.stringify({ id, op, ...fields })}\n`);
    return answer;
  }

  #answerTo(id: number, op: string, milliseconds: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#over) return reject(this.#failure("has ended"));
      const late = () =>
        this.#take(id)?.reject(this.#failure(`did not answer "${op}" in ${milliseconds} ms`));
      this.#pending.set(id, { resolve, reject, timer: setTimeout(late, milliseconds) });
    });
  }

  #read(line: string): void {
    const { id, ready, ok, error } = JSON.parse(line) as Answer;
    const pending = this.#take(ready === true ? READY : id);
    if (error === undefined) pending?.resolve(ok);
    else pending?.reject(new PythonError(error.name, error.description));
  }

  #take(id: number | undefined): Pending | undefined {
    const pending = id === undefined ? undefined : this.#pending.get(id);
    if (pending === undefined) return undefined;
    this.#pending.delete(id!);
    clearTimeout(pending.timer);
    return pending;
  }

  #failure(what: string): Error {
    return new Error(`The Python peer ${this.service} ${what}. It wrote:\n${this.#errors}`);
  }
}

function wire(
  { context = {}, ttl, traceId, encrypted = false }: PythonCallOptions = {},
): Record<string, unknown> {
  return { context, ttl: ttl ?? null, trace_id: traceId ?? null, encrypted };
}
