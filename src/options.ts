/**
 * The options of the public API, their defaults and their checks.
 *
 * @module
 */
import { NuropbValidationError } from "./errors.ts";

/** Any object with these four functions: `console`, pino, LogTape and consola fit. */
export interface Logger {
  /** Detail for whoever looks for a fault. */
  debug(message: string, fields?: Record<string, unknown>): void;
  /** Something changed: connected, service started. */
  info(message: string, fields?: Record<string, unknown>): void;
  /** Something is wrong, and the mesh goes on: a message that cannot be read, a lost connection. */
  warn(message: string, fields?: Record<string, unknown>): void;
  /** Something failed for good. */
  error(message: string, fields?: Record<string, unknown>): void;
}

/** Certificates for `amqps:` and `wss:`. The broker's certificate is always checked. */
export interface TlsOptions {
  /** Certificate authorities to trust, PEM. Default: those of the runtime. */
  ca?: string;
  /**
   * The client's certificate chain, PEM. With a url that names no account it is also the account, by SASL EXTERNAL
   * (RabbitMQ's plugin rabbitmq_auth_mechanism_ssl).
   */
  cert?: string;
  /** The client's private key, PEM. */
  key?: string;
}

/** Options of {@linkcode connect}. */
export interface ConnectOptions {
  /**
   * Whether `connect` gives the mesh at once, and opens the connection meanwhile. The requests made in that turn go
   * out with the handshake itself: the first answer comes after two round trips, of which the first is TCP's. A
   * broker that cannot be reached or refuses fails them, and closes the mesh. @default {false}
   */
  lazy?: boolean;
  /** How long opening may take, and each answer of the broker after that, in ms. @default {10_000} */
  connectTimeout?: number;
  /** How often an idle connection shows that it lives, in ms; silence ends it within twice that. @default {20_000} */
  heartbeat?: number;
  /** How long `command` and `publish` wait for the broker's confirm, in ms. @default {30_000} */
  confirmTimeout?: number;
  /** The name that the broker's management pages show. @default {"nuropb-mesh"} */
  name?: string;
  /** Whether to declare exchanges and queues; `false` for an account without configure permission. @default {true} */
  declare?: boolean;
  /**
   * Where answers come in: RabbitMQ's direct reply-to, or an exclusive queue of the connection.
   *
   * @default {"direct"}
   */
  replies?: "direct" | "queue";
  /**
   * How many requests may wait for a connection at once, and how many commands and events for their confirm.
   *
   * @default {10_000}
   */
  maxPending?: number;
  /**
   * How integers past 2^53, which Python sends, are read: rounded to the nearest number, or as a BigInt.
   *
   * @default {"number"}
   */
  integers?: "number" | "bigint";
  /** The largest body taken in or sent, in bytes. @default {16_777_216} */
  maxMessageSize?: number;
  /** Certificates for `amqps:`. */
  tls?: TlsOptions;
  /** Where log lines go. Without one the mesh is silent. */
  logger?: Logger;
  /** Gives up opening when it aborts. */
  signal?: AbortSignal;
}

/** One fault that a schema found. */
export interface SchemaIssue {
  /** What is wrong. */
  readonly message: string;
  /** Where it is. */
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined;
}

/** What a schema makes of a value. */
export type SchemaResult<Output = unknown> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

/**
 * A schema of any library that keeps to Standard Schema 1 (https://standardschema.dev): zod, valibot, arktype…
 * This is the part of that interface which is used here.
 */
export interface StandardSchema<Output = unknown> {
  /** What the standard puts under this name. */
  readonly "~standard": {
    /** The standard's version. */
    readonly version: 1;
    /** Checks a value. */
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
  };
}

const MAX_CONNECTION_NAME = 255;

/** A logger that drops everything. */
export const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/** The logger that was given, made so that its own faults are nobody else's. */
export function loggerOf(given: Logger | undefined): Logger {
  if (given === undefined) return silent;
  const guard = (level: keyof Logger) => (message: string, fields?: Record<string, unknown>) => {
    try {
      given[level](message, fields);
    } catch {
      // There is no other place to tell it.
    }
  };
  return { debug: guard("debug"), info: guard("info"), warn: guard("warn"), error: guard("error") };
}

/** {@linkcode ConnectOptions} with its defaults filled in. */
export type CheckedConnectOptions =
  & Required<Omit<ConnectOptions, "tls" | "logger" | "signal">>
  & Pick<ConnectOptions, "tls" | "logger">;

/**
 * Fills in the defaults.
 *
 * @throws {NuropbValidationError} naming the option that cannot be used.
 */
export function checkConnectOptions(options: ConnectOptions): CheckedConnectOptions {
  const {
    logger,
    tls,
    replies = "direct",
    declare = true,
    lazy = false,
    name = "nuropb-mesh",
    integers = "number",
  } = options;
  if (replies !== "direct" && replies !== "queue") {
    throw invalid('replies must be "direct" or "queue"', replies);
  }
  if (integers !== "number" && integers !== "bigint") {
    throw invalid('integers must be "number" or "bigint"', integers);
  }
  if ((tls?.cert === undefined) !== (tls?.key === undefined)) {
    throw invalid("tls.cert and tls.key must be given together", tls);
  }
  if (typeof lazy !== "boolean") throw invalid("lazy must be a boolean", lazy);
  if (typeof declare !== "boolean") throw invalid("declare must be a boolean", declare);
  if (typeof name !== "string" || name.length > MAX_CONNECTION_NAME) {
    throw invalid(`name must be a string of at most ${MAX_CONNECTION_NAME} characters`, name);
  }
  for (const level of ["debug", "info", "warn", "error"] as const) {
    if (logger !== undefined && typeof logger?.[level] !== "function") {
      throw invalid(`logger must have a function ${level}`, logger);
    }
  }
  const milliseconds = (option: "connectTimeout" | "heartbeat" | "confirmTimeout", standard: number) =>
    checkInteger(option, options[option] ?? standard, 1, MAX_MILLISECONDS);
  return {
    lazy,
    replies,
    declare,
    integers,
    name,
    connectTimeout: milliseconds("connectTimeout", 10_000),
    heartbeat: milliseconds("heartbeat", 20_000),
    confirmTimeout: milliseconds("confirmTimeout", 30_000),
    maxPending: checkInteger("maxPending", options.maxPending ?? 10_000, 1, MAX_MILLISECONDS),
    maxMessageSize: checkInteger(
      "maxMessageSize",
      options.maxMessageSize ?? 16 * 2 ** 20,
      1,
      MAX_MILLISECONDS,
    ),
    ...(tls === undefined ? {} : { tls }),
    ...(logger === undefined ? {} : { logger }),
  };
}

/** Checks a whole number, naming the option and the value. */
export function checkInteger(name: string, value: unknown, minimum: number, maximum: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < minimum || value > maximum) {
    throw invalid(`${name} must be a whole number from ${minimum} to ${maximum}`, value);
  }
  return value;
}

/** The largest time in ms that timers and AMQP's expiration both take. */
export const MAX_MILLISECONDS: number = 2 ** 31 - 1;

const encoder = new TextEncoder();

/** Checks a service's name or an event's topic: it becomes a routing key, and part of a queue's name. */
export function checkRoutingKey(what: string, value: unknown, maximumBytes = 255): string {
  if (typeof value !== "string" || value === "") throw invalid(`${what} must be a non-empty string`, value);
  if (value.length > maximumBytes / 4 && encoder.encode(value).byteLength > maximumBytes) {
    throw invalid(`${what} must be at most ${maximumBytes} bytes of UTF-8`, value);
  }
  return value;
}

/** The longest service name whose queue's name still fits AMQP's 255 bytes. */
const MAX_SERVICE_BYTES = 255 - "nuropb--sq".length;

/** Checks a service's name. */
export function checkService(name: unknown): string {
  return checkRoutingKey("The service's name", name, MAX_SERVICE_BYTES);
}

/** Checks an event's topic, or a pattern of topics. */
export function checkTopic(topic: unknown): string {
  return checkRoutingKey("The topic", topic);
}

/** Checks an object: params, a context. */
export function checkRecord(what: string, value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || isList(value)) {
    throw invalid(`${what} must be an object`, value);
  }
  return value as Record<string, unknown>;
}

/** Checks the options of a call, of which the signal is used by whatever waits. */
export function checkOptions(options: { signal?: unknown }): void {
  const { signal } = checkRecord("options", options);
  if (signal === undefined || isSignal(signal)) return;
  throw invalid("signal must be an AbortSignal", signal);
}

/** By what is used of it, since it may come from another realm. */
function isSignal(value: unknown): boolean {
  try {
    const { aborted, addEventListener } = value as Partial<AbortSignal>;
    return typeof aborted === "boolean" && typeof addEventListener === "function";
  } catch {
    return false;
  }
}

/** Whether a value is an array; a revoked proxy is as little of one as it is of anything. */
export function isList(value: unknown): value is unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/** The error for an argument that cannot be used. It names the value, shortened. */
export function invalid(rule: string, value: unknown, cause?: unknown): NuropbValidationError {
  return new NuropbValidationError(`${rule}, but is ${show(value)}`, {
    code: "INVALID_ARGUMENT",
    ...(cause === undefined ? {} : { cause }),
  });
}

/** A text as it is shown in an error. */
export function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** A value as it is shown in an error: short, and never failing. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(shorten(value));
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) return isList(value) ? "an array" : "an object";
  return String(value);
}
