/**
 * The service of ours in the parity table: what the Python peer's `Orders` does, under the same names.
 *
 * @module
 */
import {
  type Context,
  NuropbAuthenticationError,
  NuropbAuthorizationError,
  NuropbCallAgain,
  NuropbDeprecatedError,
  NuropbHandlingError,
  NuropbValidationError,
  type ServeOptions,
} from "@nuropb/mesh";

/** A message that a service got. */
export interface Arrival {
  readonly traceId: string | null;
  readonly context: unknown;
  /** Params or event. */
  readonly body: unknown;
}

class ValueError extends Error {
  override readonly name = "ValueError";
}

/** What Python answers with its `types`, as far as JavaScript has it. */
const values: Readonly<Record<string, () => unknown>> = {
  nan: () => NaN,
  inf: () => Infinity,
  dt: () => new Date(Date.UTC(2024, 0, 2, 3, 4, 5, 678)),
  dtz: () => new Date(Date.UTC(2024, 0, 2, 3, 4, 5)),
  dec: () => "12.30",
  big: () => 2 ** 70,
  uni: () => "héllo ✓ \0",
};

function authorize(token: string): { sub: string } | null {
  return token === "nobody" ? null : { sub: "u1" };
}

const throwing = (make: () => Error) => (): never => {
  throw make();
};

/** What ours is served with, given where it keeps what it gets. */
export function ordersOfOurs(arrivals: Arrival[]): { methods: Methods; options: ServeOptions<Methods> } {
  const handled = new Set<unknown>();
  const keep = (body: unknown, { traceId, raw }: Context) => {
    arrivals.push({ traceId, context: raw, body });
  };
  const instance = crypto.randomUUID();
  const methods = {
    add({ a, b = 2 }: { a: number; b?: number }, ctx: Context) {
      keep({ a }, ctx);
      return a + b;
    },
    async slow({ sleep }: { sleep: number }, ctx: Context) {
      keep({ sleep }, ctx);
      await new Promise((resolve) => setTimeout(resolve, sleep * 1_000));
      return "slept";
    },
    nothing() {},
    echo: ({ value }: { value: unknown }) => value,
    one: ({ name }: { name: string }) => values[name]?.(),
    boom: throwing(() => new ValueError("bad value")),
    aboom: () => Promise.reject(new ValueError("bad async value")),
    verr: throwing(() => new NuropbValidationError("invalid input")),
    authn: throwing(() => new NuropbAuthenticationError("who are you")),
    authz: throwing(() => new NuropbAuthorizationError("not allowed")),
    depr: throwing(() => new NuropbDeprecatedError("old")),
    handling: throwing(() => new NuropbHandlingError("cannot")),
    success({ topic }: { topic: string }, ctx: Context) {
      ctx.emit(topic, { id: 9 });
      return { ok: 1 };
    },
    add_event({ topic }: { topic: string }, ctx: Context) {
      ctx.emit(topic, { id: 9 });
    },
    again_once(_params: unknown, { redelivered }: Context) {
      if (!redelivered) throw new NuropbCallAgain("once more");
      return "second time";
    },
    again_loop: throwing(() => new NuropbCallAgain("loop")),
    context_of: (_params: unknown, { raw }: Context) => raw,
    whoami: (_params: unknown, { claims }: Context) => claims,
    for_nobody: () => "let through",
    forgotten_context: () => "let through",
    secret: ({ kw }: { kw: string }) => `secret ${kw}`,
    hidden: () => "hidden but callable",
    _private: () => "never",
    instance: () => instance,
    language: () => "typescript",
    handled_later: ({ key }: { key: string }) => handled.has(key),
    received: ({ trace_id }: { trace_id: string }) => arrivals.filter(({ traceId }) => traceId === trace_id),
  };
  const onEvent = async (event: unknown, ctx: Context) => {
    keep(event, ctx);
    const { later, fail } = (event ?? {}) as { later?: unknown; fail?: unknown };
    if (fail !== undefined) throw new ValueError("the event is refused");
    if (later === undefined) return;
    await new Promise((resolve) => setTimeout(resolve));
    handled.add(later);
  };
  return {
    methods,
    options: {
      methods: {
        whoami: { authorize },
        for_nobody: { authorize: () => null },
        forgotten_context: { authorize: throwing(() => new Error("unknown token")) },
        hidden: { hidden: true },
        secret: { encrypted: true },
      },
      version: "1.2.3",
      description: "Orders service doc",
      events: { "parity.*.created": onEvent, "parity.audit.#": onEvent },
      // One at a time, as Python: what came before a message is done before it.
      concurrency: 1,
    },
  };
}

type Methods = Record<string, (params: never, ctx: Context) => unknown>;
