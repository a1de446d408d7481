/**
 * The allow-list: which members of an instance can be called from the mesh, made once when it is served.
 *
 * @module
 */
import { invalid } from "../options.ts";
import type { StandardSchema } from "../options.ts";
import { isBuiltInClass } from "../runtime/built_in.ts";
import { matchesTopic, topicWords } from "../transport/topic_pattern.ts";
import type { Authorize } from "./claims.ts";
import type { Context } from "./context.ts";

/** Handles an event. One instance of the service gets each. */
export type EventHandler<Payload = unknown> = (event: Payload, ctx: Context) => unknown;

/** What is said of one method, in `options.methods` or by the decorator `@method`. */
export interface MethodOptions<Params = unknown> {
  /** Shown by `describe`. */
  description?: string;
  /**
   * Checks the params before the method sees them, and is shown by `describe` where it can tell its JSON Schema.
   * Any Standard Schema library: zod, valibot, arktype…
   */
  params?: StandardSchema<Params>;
  /** Neither callable nor described. @default {false} */
  hidden?: boolean;
  /** What to use instead: shown by `describe`, and sent to each caller as a warning. */
  deprecated?: string;
  /** Takes encrypted messages alone, so that no broker can read them. @default {false} */
  encrypted?: boolean;
  /** Who may call it; `false` for everyone, where the service has an `authorize`. Default: as the service says. */
  authorize?: Authorize | false;
  /** Scopes that the caller's claims must grant, all of them. */
  scopes?: readonly string[];
}

/** A method that can be called from the mesh. */
export interface HostedMethod {
  readonly name: string;
  readonly options: MethodOptions;
  /** Calls it on the instance. */
  call(params: unknown, ctx: Context): unknown;
}

/** A handler with its topic pattern. */
export interface HostedEvent {
  readonly pattern: string;
  /** Whether a topic is one of the pattern's. */
  matches(topic: string): boolean;
  call(event: unknown, ctx: Context): unknown;
}

/** What an instance gives to the mesh. */
export interface HostedMembers {
  readonly methods: ReadonlyMap<string, HostedMethod>;
  readonly events: readonly HostedEvent[];
}

type Callable = (this: unknown, first: unknown, ctx: Context) => unknown;

/** Where the decorators leave what they were told: on the function itself, so that no registry is needed. */
const methodOptions: unique symbol = Symbol.for("@nuropb/mesh.method");
const eventTopics: unique symbol = Symbol.for("@nuropb/mesh.event");

interface Marked {
  [methodOptions]?: MethodOptions;
  [eventTopics]?: readonly string[];
}

/**
 * Says of a method what `options.methods` would: description, params schema, hidden.
 *
 * @example
 * ```ts
 * import { method } from "@nuropb/mesh";
 *
 * class Greeter {
 *   @method({ description: "greets by name" })
 *   hello({ name }: { name: string }) {
 *     return `hello ${name}`;
 *   }
 * }
 * console.log(new Greeter().hello({ name: "Ann" }));
 * ```
 */
export function method<Params = never>(
  options: MethodOptions<Params>,
): <Method extends (params: Params, ...rest: never[]) => unknown>(
  value: Method,
  context: ClassMethodDecoratorContext,
) => void {
  return (value) => {
    Object.defineProperty(value, methodOptions, { value: options, configurable: true });
  };
}

/**
 * Makes a method the handler of the events of a topic pattern, as `options.events` would. It gets `(event, ctx)`,
 * and can not be called as a method any more.
 *
 * @param pattern Words with dots between; `*` is any one word, `#` any number of them.
 *
 * @example
 * ```ts
 * import { event } from "@nuropb/mesh";
 *
 * class Audit {
 *   @event("orders.*")
 *   onOrder(order: unknown) {
 *     console.log("order", order);
 *   }
 * }
 * new Audit().onOrder({ id: 1 });
 * ```
 */
export function event(
  pattern: string,
): <Method extends (...args: never[]) => unknown>(
  value: Method,
  context: ClassMethodDecoratorContext,
) => void {
  return (value) => {
    const topics = [...((value as Marked)[eventTopics] ?? []), pattern];
    Object.defineProperty(value, eventTopics, { value: topics, configurable: true });
  };
}

/**
 * Collects what an instance gives to the mesh: own and inherited methods of its classes, save `constructor`, names
 * that start with `_`, everything of built-in classes, and hidden ones.
 *
 * @throws {NuropbValidationError} when the options name what the instance does not have.
 */
export function collectMembers(
  instance: object,
  methodsGiven: Readonly<Record<string, MethodOptions | undefined>>,
  eventsGiven: Readonly<Record<string, EventHandler>>,
): HostedMembers {
  const methods = new Map<string, HostedMethod>();
  const events = Object.entries(eventsGiven).map(([pattern, handler]) => {
    if (typeof handler !== "function") {
      throw invalid(`events[${JSON.stringify(pattern)}] must be a function`, handler);
    }
    return hostedEvent(pattern, handler);
  });
  const callables = callablesOf(instance);
  for (const [name, callable] of callables) {
    const marked = callable as Marked;
    for (const pattern of marked[eventTopics] ?? []) {
      events.push(hostedEvent(pattern, (payload, ctx) => callable.call(instance, payload, ctx)));
    }
    if (marked[eventTopics] !== undefined) continue;
    const options = { ...marked[methodOptions], ...defined(own(methodsGiven, name)) };
    checkMethodOptions(name, options);
    if (options.hidden === true) continue;
    methods.set(name, { name, options, call: (params, ctx) => callable.call(instance, params, ctx) });
  }
  for (const name of Object.keys(methodsGiven)) {
    if (!callables.has(name)) {
      throw invalid("options.methods must name methods of the instance", name);
    }
  }
  return { methods, events };
}

function hostedEvent(pattern: string, handler: EventHandler): HostedEvent {
  const words = topicWords(pattern);
  return { pattern, matches: (topic) => matchesTopic(words, topicWords(topic)), call: handler };
}

function callablesOf(instance: object): Map<string, Callable> {
  const callables = new Map<string, Callable>();
  const seen = new Set<string>();
  for (
    let level: object | null = instance;
    level !== null && !isBuiltIn(level);
    level = Object.getPrototypeOf(level)
  ) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(level))) {
      // What a subclass has under a name hides what it inherits, even if it is no function. A getter is not run.
      if (seen.has(name)) continue;
      seen.add(name);
      if (name === "constructor" || name === "__proto__" || name.startsWith("_")) continue;
      if (typeof value === "function") callables.set(name, value as Callable);
    }
  }
  return callables;
}

/** Whether an object is the prototype of a class that comes with the runtime. */
function isBuiltIn(level: object): boolean {
  const constructor: unknown = Object.getOwnPropertyDescriptor(level, "constructor")?.value;
  return typeof constructor === "function" && constructor.prototype === level && isBuiltInClass(constructor);
}

/** What is said, without what is left undefined: that must not take back what a decorator says. */
function defined(options: MethodOptions = {}): MethodOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function own<Value>(given: Readonly<Record<string, Value | undefined>>, name: string): Value | undefined {
  return Object.hasOwn(given, name) ? given[name] : undefined;
}

function checkMethodOptions(name: string, options: MethodOptions): void {
  const { params, description, hidden, deprecated, encrypted, authorize, scopes } = options;
  if (params !== undefined && typeof params?.["~standard"]?.validate !== "function") {
    throw invalid(
      `methods.${name}.params must be a Standard Schema, as zod, valibot and arktype make them`,
      params,
    );
  }
  const check = (option: string, value: unknown, type: "string" | "boolean") => {
    if (value !== undefined && typeof value !== type) {
      throw invalid(`methods.${name}.${option} must be a ${type}`, value);
    }
  };
  check("description", description, "string");
  check("deprecated", deprecated, "string");
  check("hidden", hidden, "boolean");
  check("encrypted", encrypted, "boolean");
  if (authorize !== undefined && authorize !== false && typeof authorize !== "function") {
    throw invalid(`methods.${name}.authorize must be a function or false`, authorize);
  }
  if (
    scopes !== undefined && !(Array.isArray(scopes) && scopes.every((scope) => typeof scope === "string"))
  ) {
    throw invalid(`methods.${name}.scopes must be a list of strings`, scopes);
  }
}
