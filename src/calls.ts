/**
 * What can be asked of a mesh, as types: the calls, their options and what they give.
 *
 * @module
 */

/** Options of one request or command. */
export interface CallOptions {
  /** Travels with the message; `Authorization` in it is the bearer token. @default {{}} */
  context?: Record<string, unknown>;
  /**
   * How long the message is worth something, in ms: its expiration on the broker, and for a request the caller's own
   * deadline. Default: 30 000 for a request, 3 600 000 for a command.
   */
  ttl?: number;
  /** Stops waiting when it aborts, and rejects with its reason. The service may still do the work. */
  signal?: AbortSignal;
  /** Ties messages of one piece of work together. Default: a new one of 32 hex digits. */
  traceId?: string;
  /**
   * Whether to encrypt the params, and the answer, to the service's public key. Default: as the service describes
   * the method, for which the first call asks it. A command to a service that cannot be asked at the time goes out
   * plain: say `true` for what must never do that, and `false` to spare the asking.
   */
  encrypted?: boolean;
  /**
   * Whether a request may run twice, so that it is sent again, with the same correlation id, when the connection is
   * lost before its answer came. A service with `dedupe` runs it once all the same. @default {false}
   */
  idempotent?: boolean;
}

/** Options of one event. */
export interface PublishOptions {
  /** Travels with the event. @default {{}} */
  context?: Record<string, unknown>;
  /** Stops waiting for the confirm when it aborts, and rejects with its reason. */
  signal?: AbortSignal;
  /** Ties messages of one piece of work together. Default: a new one of 32 hex digits. */
  traceId?: string;
  /** Whom the event is meant for, for the listeners to judge. @default {null} */
  target?: string[] | null;
}

/** Options of one subscription. */
export interface SubscribeOptions {
  /** Ends the subscription when it aborts. */
  signal?: AbortSignal;
  /** How many events may wait here for the loop to take them. @default {256} */
  buffer?: number;
}

/** The answer to a request. */
export interface MeshResponse {
  /** What the method returned; null when it failed. */
  readonly result: unknown;
  /** Name and text of what went wrong, or null. */
  readonly error: { readonly error: string; readonly description: string } | null;
  /** The request's. */
  readonly correlationId: string;
  /** The request's. */
  readonly traceId: string | null;
  /** The request's, echoed. */
  readonly context: Record<string, unknown>;
  /** A remark of the service, about a deprecated method for one. */
  readonly warning: string | null;
}

/** A JSON Schema of a method's params. */
export interface ParametersSchema {
  /** Params are always an object. */
  readonly type: "object";
  /** A JSON Schema for each param. */
  readonly properties: Readonly<Record<string, unknown>>;
  /** The params that must be there. */
  readonly required: readonly string[];
}

/** What a service says of one of its methods. */
export interface MethodDescription {
  /** What it does. */
  readonly description: string;
  /** Whether it takes encrypted messages alone. */
  readonly requiresEncryption: boolean;
  /** What to use instead, when it is deprecated; null when it is not, or nobody says. */
  readonly deprecated: string | null;
  /** What it takes. */
  readonly parameters: ParametersSchema;
}

/** What a service says of itself. */
export interface ServiceDescription {
  /** Its name on the mesh. */
  readonly name: string;
  /** Its own version. */
  readonly version: string;
  /** What it does. */
  readonly description: string;
  /** What its callers should know. */
  readonly warnings: readonly string[];
  /** Whether any method takes encrypted messages alone. */
  readonly encryptedMethods: boolean;
  /** The service's public key, SPKI PEM, or null. */
  readonly publicKey: string | null;
  /** Its methods by name. */
  readonly methods: Readonly<Record<string, MethodDescription>>;
}

/** The names of an instance's methods. */
export type MethodName<Instance> = {
  [Name in keyof Instance]: Instance[Name] extends (...args: never[]) => unknown ? Name : never;
}[keyof Instance];

/** What a method takes: its first parameter. The second, the context, is the service's own affair. */
export type MethodParams<Method> = Method extends (...args: infer Args) => unknown ? Args[0] : never;

/** What a caller gets of a method: what it returns, awaited. */
export type MethodResult<Method> = Method extends (...args: never[]) => infer Result ? Awaited<Result>
  : never;

/**
 * The methods of a service as its callers see them: `(params, options?)`, always a promise.
 * A method without params, or with optional ones, is called without.
 */
export type ServiceProxy<Instance> = {
  readonly [Name in MethodName<Instance> & string]: undefined extends MethodParams<Instance[Name]>
    ? (params?: MethodParams<Instance[Name]>, options?: CallOptions) => Promise<MethodResult<Instance[Name]>>
    : (params: MethodParams<Instance[Name]>, options?: CallOptions) => Promise<MethodResult<Instance[Name]>>;
};

/** One event as a subscriber gets it. */
export interface EventMessage<Payload = unknown, Context = unknown> {
  /** Its topic. */
  readonly topic: string;
  /** What was published. */
  readonly event: Payload;
  /** Whom it is meant for, when its publisher said so. */
  readonly target: readonly string[] | null;
  /** Where it comes from: trace, context. */
  readonly ctx: Context;
}

/**
 * What comes in, as an async iterable. It takes from the moment it is made; `ready` tells when the broker has it.
 * Leaving the loop, `close` or the signal end it. What comes while no loop takes it waits: the first of it here, the
 * rest on the broker.
 */
export interface DeliveryStream<Item> extends AsyncIterableIterator<Item>, AsyncDisposable {
  /** Resolves when the broker delivers to it; rejects with the broker's refusal, which the loop throws too. */
  readonly ready: Promise<void>;
  /** Ends it. What was not taken is dropped here; a dead letter stays on the broker. */
  close(): Promise<void>;
}

/** The events of some topics. */
export type Subscription<Payload = unknown, Context = unknown> = DeliveryStream<
  EventMessage<Payload, Context>
>;

/** A message that a service could not handle. */
export interface DeadLetter {
  /** The service whose queue it was in; null when it was no service's. */
  readonly service: string | null;
  /** `request`, `command` or `event`; null when its header says nothing. */
  readonly type: string | null;
  /** Why it is here: `rejected`, `expired`, `delivery_limit`, `maxlen`. */
  readonly reason: string;
  /** How many times it has come here for that reason from that queue; one that is replayed begins anew. */
  readonly count: number;
  /** When it came here last. */
  readonly time: Date;
  /** The message as it was sent: an encrypted body stays encrypted. */
  readonly message: {
    /** The exchange it was published to. */
    readonly exchange: string;
    /** The service or topic it was published under. */
    readonly routingKey: string;
    /** Its correlation id, where it has one. */
    readonly correlationId: string | null;
    /** Its AMQP headers, without what the broker added. */
    readonly headers: Readonly<Record<string, unknown>>;
    /** Its body: JSON, or an encrypted payload. */
    readonly body: Uint8Array;
  };
  /**
   * Sends it back to the service it came from, and to no one else; then it is gone from here.
   *
   * @throws {NuropbNotDeliveredError} when that service's queue is no more; the letter stays.
   * @throws {NuropbTransportError} with code `CLOSED` when the loop was left, and the letter is the broker's again.
   * @throws {NuropbMessageError} when its body was larger than `maxMessageSize`, and so was not taken in.
   */
  replay(): Promise<void>;
  /** Drops it for good. */
  discard(): void;
}

/** Anything that sends requests, commands and events: a mesh, or `ctx.mesh` inside a method. */
export interface Caller {
  /**
   * Asks a service for something and waits for its answer. It always ends: with the result, or one of the errors.
   *
   * @param service The service's name.
   * @param method The method's name.
   * @param params An object; the service's method gets it whole.
   * @returns What the method returned, as JSON carried it.
   * @throws {NuropbValidationError} `INVALID_ARGUMENT` for a bad argument, before anything is sent;
   *   `INVALID_PARAMS` from the service.
   * @throws {NuropbNotDeliveredError} when nobody hosts the service.
   * @throws {NuropbTimeoutError} when no answer comes within `ttl` ms (default 30 000).
   * @throws {NuropbTransportError} when the connection is lost: the outcome is unknown, unless it is `idempotent`.
   * @throws {NuropbException} or the subclass that the service's error names, with its `remote` name and text.
   *
   * @example
   * ```ts
   * import { connect, serve } from "@nuropb/mesh";
   *
   * await using service = await serve({ add: ({ a, b }: { a: number; b: number }) => a + b }, {
   *   name: "calculator",
   *   url: "memory:",
   * });
   * await using mesh = await connect("memory:");
   * console.log(await mesh.request<number>("calculator", "add", { a: 1, b: 2 })); // 3
   * ```
   */
  request<Result = unknown>(
    service: string,
    method: string,
    params?: object,
    options?: CallOptions,
  ): Promise<Result>;

  /**
   * Asks like {@linkcode Caller.request}, and resolves with the whole response. An error of the service is in it;
   * only what kept the answer from coming is thrown.
   *
   * @throws {NuropbException} as `request` does, but for what the service answers.
   */
  requestRaw(service: string, method: string, params?: object, options?: CallOptions): Promise<MeshResponse>;

  /**
   * Tells a service to do something. Resolves once the broker has the command; nobody answers.
   *
   * @param params An object; the service's method gets it whole.
   * @throws {NuropbValidationError} for a bad argument, before anything is sent.
   * @throws {NuropbNotDeliveredError} when nobody hosts the service.
   * @throws {NuropbTimeoutError} when the broker does not confirm within `confirmTimeout`.
   */
  command(service: string, method: string, params?: object, options?: CallOptions): Promise<void>;

  /**
   * Tells everyone who listens that something happened. Resolves once the broker has the event; with no listener
   * that is all.
   *
   * @param topic Words with dots between: `orders.created`.
   * @param event Anything that JSON can carry.
   * @throws {NuropbValidationError} for a bad argument, before anything is sent.
   * @throws {NuropbTimeoutError} when the broker does not confirm within `confirmTimeout`.
   */
  publish(topic: string, event: unknown, options?: PublishOptions): Promise<void>;

  /**
   * A service as an object: `service.method(params, options)` is a request. Typed from the class, without generated
   * code; any name can be called, and the service has the last word.
   *
   * @param name The service's name.
   * @param options Options of every call, each of which can have its own.
   */
  service<Instance>(name: string, options?: CallOptions): ServiceProxy<Instance>;

  /**
   * What a service says of itself: its methods and their params, in the same shape for Python services.
   * Asked once and kept.
   *
   * @param options `refresh` asks again.
   * @throws {NuropbException} as `request` does.
   */
  describe(
    service: string,
    options?: { refresh?: boolean; signal?: AbortSignal },
  ): Promise<ServiceDescription>;
}

/** What the calls of a handler inherit from the message it handles. */
export interface CallerScope {
  /** Ties messages of one piece of work together. */
  readonly traceId: string | null;
  /** When the caller stops waiting, in ms since the epoch; `Infinity` when there is no such time. */
  readonly deadline: number;
  /** Ends the calls. */
  readonly signal: AbortSignal;
}
