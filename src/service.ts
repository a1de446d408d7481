/**
 * `serve()` and what it gives.
 *
 * @module
 */
import type { MethodName, MethodParams } from "./calls.ts";
import { sleep } from "./deferred.ts";
import { NuropbTransportError, NuropbValidationError } from "./errors.ts";
import type { Authorize } from "./host/claims.ts";
import type { Context } from "./host/context.ts";
import { Deduplicator } from "./host/dedupe.ts";
import type { DedupeOptions } from "./host/dedupe.ts";
import { describeService } from "./host/describe.ts";
import { Dispatcher } from "./host/dispatcher.ts";
import { collectMembers } from "./host/methods.ts";
import type { EventHandler, HostedMembers, MethodOptions } from "./host/methods.ts";
import { connect } from "./mesh.ts";
import type { Mesh } from "./mesh.ts";
import { MeshConnection } from "./mesh_connection.ts";
import {
  checkInteger,
  checkOptions,
  checkService,
  checkTopic,
  invalid,
  loggerOf,
  MAX_MILLISECONDS,
} from "./options.ts";
import type { ConnectOptions } from "./options.ts";
import { onTermination } from "./runtime/signals.ts";
import { serviceQueue, serviceTopology } from "./transport/topology.ts";
import type { Consumer } from "./transport/transport.ts";
import type { PrivateKeyInput } from "./wire/private_key.ts";
import type { ServiceKeys } from "./wire/service_keys.ts";

/** Options of {@linkcode serve}; those of `connect` are for the service's own connection. */
export interface ServeOptions<Instance extends object = object, Claims = unknown> extends ConnectOptions {
  /** The broker's url, or a list of them: as for `connect`. */
  url?: string | readonly string[];
  /** An open mesh to share; `close` leaves it open. Without it the service opens one of its own. */
  mesh?: Mesh;
  /** The service's name. Default: the class's name in kebab case, `QuickExample` → `quick-example`. */
  name?: string;
  /** Told by `describe`. @default {""} */
  version?: string;
  /** Told by `describe`. @default {""} */
  description?: string;
  /** What is to be said of the methods. Those that are not named here can be called too. */
  methods?: { readonly [Name in MethodName<Instance>]?: MethodOptions<MethodParams<Instance[Name]>> };
  /** Handlers by topic pattern. One instance of the service gets each event. */
  events?: Readonly<Record<string, EventHandler>>;
  /**
   * Turns the bearer token of a caller into claims; `bearer()` makes one from keys. With it every method wants a
   * token, save where `methods` says `authorize: false`. Events and `describe` are open.
   */
  authorize?: Authorize<Claims>;
  /** Where in a message's context the bearer token is, with or without `Bearer `. @default {"Authorization"} */
  contextTokenKey?: string;
  /**
   * Opens encrypted messages: PKCS8 PEM, or a `CryptoKey` or pair for RSA-OAEP with SHA-256. All instances of a
   * service need the same one, and commands on their way are lost to a new one. Default: where a method is
   * `encrypted`, a key made at start.
   */
  privateKey?: PrivateKeyInput;
  /** How many messages are handled at once. @default {64} */
  concurrency?: number;
  /**
   * `quorum` keeps the queue on several brokers, and a message that fails until it is among the dead letters, also
   * when a broker is killed meanwhile; not possible where a Python instance hosts the service too.
   *
   * @default {"classic"}
   */
  queueType?: "classic" | "quorum";
  /**
   * How many times a `quorum` queue delivers a message whose instance is lost over it, before it goes to the dead
   * letters as `delivery_limit`. Default: the broker's.
   */
  deliveryLimit?: number;
  /**
   * Makes this instance handle a message once, also where it comes again: redelivered after a lost connection, or
   * sent again by an `idempotent` caller, which gets the answer of the first time. Default: a message that comes
   * again is handled again.
   */
  dedupe?: DedupeOptions;
  /**
   * Whether SIGTERM and SIGINT close the service as `close` does, where the runtime has signals. The process ends
   * when nothing else keeps it; a second signal ends it at once. @default {false}
   */
  signals?: boolean;
  /** How long `close` waits for what is running, in ms. @default {30_000} */
  drainTimeout?: number;
}

/** That each method's `ctx: Context<…>` takes the claims that the service's `authorize` gives. */
export type TakesClaims<Instance, Claims> = unknown extends Claims ? unknown : {
  readonly [Name in MethodName<Instance>]: Instance[Name] extends
    (params: infer Params, ctx: infer Ctx, ...rest: never[]) => infer Result
    ? Context<NonNullable<Claims>> extends Ctx ? Instance[Name]
    : (params: Params, ctx: Context<NonNullable<Claims>>) => Result
    : Instance[Name];
};

/** A running service. Made by {@linkcode serve}. */
export interface Service extends AsyncDisposable {
  /** The name that callers use. */
  readonly name: string;
  /** The mesh it is on. */
  readonly mesh: Mesh;
  /**
   * Takes no more messages, waits for those that run, then closes. What still runs after `drainTimeout` has its
   * `ctx.signal` aborted and goes back to the queue. Never rejects.
   */
  close(): Promise<void>;
}

/**
 * Makes an object a service on a mesh: its methods can be called by everyone there. Serve it in as many processes
 * as you like: they share the work.
 *
 * Methods get `(params, ctx)`. Own and inherited methods can be called, but for `constructor`, those that start with
 * `_`, those of built-in classes, and hidden ones.
 *
 * @param instance Any object: an instance of a class, or a literal with functions.
 * @param options What to serve it as, and where.
 * @returns The service, once the broker delivers to it.
 * @throws {NuropbValidationError} for an option that cannot be used.
 * @throws {NuropbTransportError} when the broker cannot be reached, or refuses the queue.
 *
 * @example
 * ```ts
 * import { connect, serve } from "@nuropb/mesh";
 *
 * class QuickExample {
 *   hello({ name }: { name: string }) {
 *     return `hello ${name}`;
 *   }
 * }
 *
 * const service = await serve(new QuickExample(), { url: "memory:" });
 * const mesh = await connect("memory:");
 * console.log(await mesh.service<QuickExample>("quick-example").hello({ name: "Ann" })); // hello Ann
 * await mesh.close();
 * await service.close();
 * ```
 */
export async function serve<Instance extends object, Claims = unknown>(
  instance: Instance & TakesClaims<Instance, NoInfer<Claims>>,
  options: ServeOptions<Instance, Claims> = {},
): Promise<Service> {
  if (typeof instance !== "object" || instance === null) {
    throw invalid("What is served must be an object", instance);
  }
  checkOptions(options);
  const name = checkService(options.name ?? nameOf(instance));
  const concurrency = checkInteger("concurrency", options.concurrency ?? 64, 1, 65_535);
  const drainTimeout = checkInteger("drainTimeout", options.drainTimeout ?? 30_000, 0, MAX_MILLISECONDS);
  const queueType = options.queueType ?? "classic";
  if (queueType !== "classic" && queueType !== "quorum") {
    throw invalid('queueType must be "classic" or "quorum"', queueType);
  }
  const { deliveryLimit, signals = false } = options;
  if (deliveryLimit !== undefined) {
    checkInteger("deliveryLimit", deliveryLimit, 1, MAX_MILLISECONDS);
    if (queueType !== "quorum") throw invalid('deliveryLimit needs queueType "quorum"', deliveryLimit);
  }
  if (typeof signals !== "boolean") throw invalid("signals must be a boolean", signals);
  const deduplicator = options.dedupe && new Deduplicator({
    size: checkInteger("dedupe.size", options.dedupe.size ?? 10_000, 1, MAX_MILLISECONDS),
    ttl: checkInteger("dedupe.ttl", options.dedupe.ttl ?? 60_000, 1, MAX_MILLISECONDS),
  });
  const members = membersOf(instance, options);
  const topics = members.events.map(({ pattern }) => checkTopic(pattern));
  const { authorize, contextTokenKey = "Authorization" } = options;
  if (authorize !== undefined && typeof authorize !== "function") {
    throw invalid("authorize must be a function", authorize);
  }
  if (typeof contextTokenKey !== "string") throw invalid("contextTokenKey must be a string", contextTokenKey);
  checkGuards(members, authorize);
  const encryption = await encryptionOf(name, members, options);

  const own = options.mesh === undefined;
  const mesh = options.mesh ?? await connect(options.url, options);
  if (!(mesh instanceof MeshConnection)) throw invalid("mesh must be what connect() gave", mesh);
  const dispatcher = new Dispatcher({
    service: name,
    members,
    authorize,
    contextTokenKey,
    deduplicator,
    keys: encryption?.keys,
    integers: options.integers ?? mesh.options.integers,
    logger: loggerOf(options.logger ?? mesh.options.logger),
    description: describeService({
      name,
      version: options.version ?? "",
      description: options.description ?? "",
      publicKey: encryption?.publicKeyPem ?? null,
    }, members.methods),
    callerFor: (scope) => mesh.callerFor(scope),
    encodeEvent: (topic, event, traceId) => mesh.encodeEvent(topic, event, traceId),
    publish: (message) => mesh.publishMessage(message),
  });
  const declare = options.declare ?? mesh.options.declare;
  try {
    const consumer = await mesh.supervisor.consume(
      () => ({
        queue: serviceQueue(name),
        topology: declare ? serviceTopology(name, topics, { queueType, deliveryLimit }) : [],
        prefetch: concurrency,
      }),
      dispatcher.handle,
      options.signal,
    );
    const service = new RunningService(name, mesh, own, consumer, dispatcher, drainTimeout);
    if (signals) service.closeOnTermination();
    return service;
  } catch (error) {
    if (own) await mesh.close();
    throw error;
  }
}

class RunningService implements Service {
  readonly name: string;
  readonly mesh: Mesh;
  readonly #ownsMesh: boolean;
  readonly #consumer: Consumer;
  readonly #dispatcher: Dispatcher;
  readonly #drainTimeout: number;
  #closing: Promise<void> | undefined;
  #ignoreSignals = () => {};

  constructor(
    name: string,
    mesh: Mesh,
    ownsMesh: boolean,
    consumer: Consumer,
    dispatcher: Dispatcher,
    drainTimeout: number,
  ) {
    this.name = name;
    this.mesh = mesh;
    this.#ownsMesh = ownsMesh;
    this.#consumer = consumer;
    this.#dispatcher = dispatcher;
    this.#drainTimeout = drainTimeout;
  }

  closeOnTermination(): void {
    this.#ignoreSignals = onTermination(() => void this.close());
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#ignoreSignals();
    await this.#consumer.cancel();
    const drained = new AbortController();
    await Promise.race([
      this.#dispatcher.idle().then(() => drained.abort()),
      sleep(this.#drainTimeout, drained.signal).catch(() => {}),
    ]);
    if (this.#dispatcher.running > 0) {
      this.#dispatcher.abort(
        new NuropbTransportError(`The service ${this.name} was closed, and did not wait longer`, {
          code: "CLOSED",
        }),
      );
    }
    await this.#consumer.close();
    if (this.#ownsMesh) await this.mesh.close();
  }
}

/** What an instance gives to the mesh. A proxy may refuse even to be looked at. */
function membersOf<Instance extends object>(
  instance: Instance,
  { methods = {}, events = {} }: Pick<ServeOptions<Instance>, "methods" | "events">,
): HostedMembers {
  try {
    return collectMembers(instance, methods, events);
  } catch (error) {
    if (error instanceof NuropbValidationError) throw error;
    throw invalid("What is served, its methods and events must be objects that can be read", instance, error);
  }
}

/** A method that asks for scopes must know who calls: said at the start, not at the first call. */
function checkGuards({ methods }: HostedMembers, authorize: Authorize | undefined): void {
  for (const [method, { options }] of methods) {
    const guarded = options.authorize === undefined ? authorize !== undefined : options.authorize !== false;
    if (options.scopes !== undefined && !guarded) {
      throw invalid(
        `methods.${method}.scopes need an authorize, of the service or the method`,
        options.scopes.join(" "),
      );
    }
  }
}

/** What opens encrypted messages, if the service takes any. */
async function encryptionOf(
  name: string,
  { methods }: HostedMembers,
  { privateKey, logger }: Pick<ServeOptions, "privateKey" | "logger">,
): Promise<{ readonly keys: ServiceKeys; readonly publicKeyPem: string } | undefined> {
  if (privateKey === undefined) {
    if (![...methods.values()].some(({ options }) => options.encrypted === true)) return undefined;
    loggerOf(logger).warn(
      "the service made a private key of its own: give all its instances the same one by `privateKey`",
      { service: name },
    );
  }
  const { serviceKeys } = await import("./wire/service_keys.ts");
  return await serviceKeys(privateKey);
}

/** `QuickExample` → `quick-example`, `HTTPGate` → `http-gate`. */
function nameOf(instance: object): string {
  const constructor: unknown = Object.getPrototypeOf(instance)?.constructor;
  const name: unknown = typeof constructor === "function" ? constructor.name : "";
  if (typeof name !== "string" || name === "" || name === "Object") {
    throw invalid("options.name must be given, since the object has no class of its own", undefined);
  }
  return name
    .replace(/([a-z\d])([A-Z])/g, "$1-$2")
    .replace(/([A-Z]+)([A-Z][a-z])/g, "$1-$2")
    .replace(/_/g, "-")
    .toLowerCase();
}
