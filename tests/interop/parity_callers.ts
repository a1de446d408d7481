/**
 * A Python caller and one of ours, with the same face, so that one test tries a feature with both.
 *
 * @module
 */
import { connect, type Mesh, NuropbException } from "@nuropb/mesh";
import { PythonError, type PythonPeer } from "./python_peer.ts";
import { LogRecorder, rejection } from "./support.ts";

/** What goes with a call. */
export interface Options {
  readonly context?: Record<string, unknown>;
  readonly ttl?: number;
  readonly traceId?: string;
  readonly encrypted?: boolean;
}

/** An answer, with an error in it rather than thrown. */
export interface Answer {
  readonly result: unknown;
  /** The name of what went wrong, as the answer says it; null when nothing did. */
  readonly error: string | null;
  readonly traceId: string | null;
  readonly context: Record<string, unknown>;
  readonly warning: string | null;
}

/** What a caller knows of a service by its description. */
export interface Described {
  readonly name: unknown;
  readonly version: unknown;
  readonly text: unknown;
  readonly methods: readonly string[];
  /** What `add` takes. */
  readonly add: unknown;
  /** Whether `secret` is to be encrypted. */
  readonly secret: boolean;
}

/** Either of them. */
export interface Caller {
  /** A request. */
  ask(service: string, method: string, params?: object, options?: Options): Promise<Answer>;
  /** The class of what a failing request throws. */
  thrown(service: string, method: string): Promise<string>;
  /** The name that the error of a failing request had in the service, as the caller gets to know it. */
  named(service: string, method: string, options?: Options): Promise<string | null>;
  /** A result as the caller's language shows it, in small letters. */
  text(service: string, method: string, params: object): Promise<string>;
  /** Sends a command, and tells what the sender is told: `sent`, or the class of an error. */
  command(service: string, method: string, params?: object, options?: Options): Promise<string>;
  /** Publishes an event, likewise. */
  publish(topic: string, event: unknown, options?: Options): Promise<string>;
  /** How many answers came for a trace so far. Whatever was sent before an answer that is here is counted. */
  answers(traceId: string): Promise<number>;
  describe(service: string): Promise<Described>;
  /** Describes it twice, and tells what the second time gives: `refreshed`, or the class of an error. */
  refresh(service: string): Promise<string>;
}

/** A Python caller. */
export function pythonCaller(peer: PythonPeer): Caller {
  const told = (work: Promise<unknown>, well: string) =>
    work.then(() => well, (error: unknown) => {
      if (error instanceof PythonError) return error.type;
      throw error;
    });
  return {
    async ask(service, method, params, options) {
      const { result, error, trace_id: traceId, context, warning } = await peer.requestRaw(
        service,
        method,
        params,
        options,
      );
      return { result, error: error?.error ?? null, traceId, context, warning };
    },
    thrown: (service, method) => told(peer.request(service, method), "nothing"),
    named: async (service, method, options) =>
      (await peer.requestRaw(service, method, {}, options)).error?.error ?? null,
    text: async (service, method, params) => (await peer.text(service, method, params)).toLowerCase(),
    command: (service, method, params = {}, options = {}) =>
      told(peer.command(service, method, params, options), "sent"),
    publish: (topic, event, options) => told(peer.publish(topic, event, options), "sent"),
    answers: async (traceId) => (await peer.answers(traceId)).length,
    async describe(service) {
      const { info, encrypted } = await peer.describe(service);
      const methods = info["methods"] as Record<string, { parameters: { properties: unknown } }>;
      return {
        name: info["service_name"],
        version: info["service_version"],
        text: info["description"],
        methods: Object.keys(methods),
        add: methods["add"]?.parameters,
        secret: encrypted["secret"] === true,
      };
    },
    refresh: (service) => told(peer.inspect("refresh", { service }), "refreshed"),
  };
}

/** The caller of ours, on a mesh of its own. */
export class CallerOfOurs implements Caller, AsyncDisposable {
  readonly #mesh: Mesh;
  readonly #log: LogRecorder;
  /** The correlation ids of the answers of a trace. */
  readonly #answered = new Map<string, string>();

  private constructor(mesh: Mesh, log: LogRecorder) {
    this.#mesh = mesh;
    this.#log = log;
  }

  static async open(url: string): Promise<CallerOfOurs> {
    const log = new LogRecorder();
    return new CallerOfOurs(await connect(url, { logger: log, integers: "bigint" }), log);
  }

  async ask(service: string, method: string, params: object = {}, options: Options = {}): Promise<Answer> {
    let response;
    try {
      response = await this.#mesh.requestRaw(service, method, params, options);
    } catch (error) {
      return {
        result: null,
        error: nameOf(error),
        traceId: options.traceId ?? null,
        context: {},
        warning: null,
      };
    }
    const { result, error, traceId, context, warning, correlationId } = response;
    if (traceId !== null) this.#answered.set(traceId, correlationId);
    return { result, error: error?.error ?? null, traceId, context, warning };
  }

  async thrown(service: string, method: string): Promise<string> {
    return nameOf(await rejection(this.#mesh.request(service, method)));
  }

  async named(service: string, method: string, options: Options = {}): Promise<string | null> {
    const error = await rejection(this.#mesh.request(service, method, {}, options));
    if (error instanceof NuropbException) return error.remote?.name ?? error.name;
    throw error;
  }

  async text(service: string, method: string, params: object): Promise<string> {
    return String(await this.#mesh.request(service, method, params)).toLowerCase();
  }

  command(service: string, method: string, params: object = {}, options: Options = {}): Promise<string> {
    return this.#mesh.command(service, method, params, options).then(() => "sent", nameOf);
  }

  publish(topic: string, event: unknown, options: Options = {}): Promise<string> {
    return this.#mesh.publish(topic, event, options).then(() => "sent", nameOf);
  }

  answers(traceId: string): Promise<number> {
    const id = this.#answered.get(traceId);
    if (id === undefined) return Promise.resolve(0);
    const dropped = this.#log.lines.filter(({ message, fields }) =>
      message.startsWith("an answer that nobody waits for") && fields["correlationId"] === id
    );
    return Promise.resolve(1 + dropped.length);
  }

  async describe(service: string): Promise<Described> {
    const { name, version, description: text, methods } = await this.#mesh.describe(service);
    const { add, secret } = methods;
    return {
      name,
      version,
      text,
      methods: Object.keys(methods),
      add: add?.parameters,
      secret: secret?.requiresEncryption === true,
    };
  }

  async refresh(service: string): Promise<string> {
    await this.#mesh.describe(service);
    return await this.#mesh.describe(service, { refresh: true }).then(() => "refreshed", nameOf);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#mesh.close();
  }
}

function nameOf(error: unknown): string {
  if (error instanceof NuropbException) return error.name;
  throw error;
}
