/**
 * What services say of themselves, read and kept.
 *
 * @module
 */
import type { MethodDescription, ParametersSchema, ServiceDescription } from "../calls.ts";
import { NuropbMessageError } from "../errors.ts";

/** How long a service may take to describe itself, in ms. */
const DESCRIBE_TTL = 30_000;

/** Keeps descriptions, asking each service once. */
export class Discovery {
  readonly #ask: (service: string, ttl: number) => Promise<unknown>;
  readonly #asked = new Map<string, Promise<ServiceDescription>>();
  readonly #known = new Map<string, ServiceDescription>();

  /** @param ask Requests a service's description. */
  constructor(ask: (service: string, ttl: number) => Promise<unknown>) {
    this.#ask = ask;
  }

  /** A service's description, if it is known. */
  known(service: string): ServiceDescription | undefined {
    return this.#known.get(service);
  }

  /**
   * A service's description.
   *
   * @param refresh Whether to ask even if it is known.
   * @param ttl How long the service may take to answer, in ms, if nobody else is asking it already.
   */
  describe(service: string, refresh: boolean, ttl: number = DESCRIBE_TTL): Promise<ServiceDescription> {
    const before = this.#asked.get(service);
    if (before !== undefined && !refresh) return before;
    const asked = this.#ask(service, ttl).then((wire) => readDescription(service, wire));
    this.#asked.set(service, asked);
    asked.then((description) => this.#known.set(service, description), () => {
      // A failure is not kept: the next one asks again.
      if (this.#asked.get(service) === asked) this.#asked.delete(service);
    });
    return asked;
  }
}

/** Python type names, as its `describe` gives them, in JSON Schema's words. */
const jsonTypes: Readonly<Record<string, string>> = {
  str: "string",
  int: "integer",
  float: "number",
  bool: "boolean",
  dict: "object",
  list: "array",
  tuple: "array",
  None: "null",
};

function readDescription(service: string, wire: unknown): ServiceDescription {
  const description = record(wire);
  if (description === undefined) {
    throw new NuropbMessageError(`${service} describes itself by something that is no object`);
  }
  const methods: Record<string, MethodDescription> = {};
  for (const [name, value] of Object.entries(record(description.methods) ?? {})) {
    const method = record(value) ?? {};
    // Defined, not assigned: a peer may name a method `__proto__`.
    Object.defineProperty(methods, name, {
      enumerable: true,
      value: {
        description: text(method.description),
        requiresEncryption: method.requires_encryption === true,
        deprecated: typeof method.deprecated === "string" ? method.deprecated : null,
        parameters: readParameters(method.parameters),
      } satisfies MethodDescription,
    });
  }
  return {
    name: text(description.service_name) || service,
    version: text(description.service_version),
    description: text(description.description),
    warnings: texts(description.warnings),
    encryptedMethods: description.encrypted_methods === true,
    publicKey: typeof description.public_key === "string" ? description.public_key : null,
    methods,
  };
}

/** Python gives a list of `[name, {type, description, default}]` pairs where JSON Schema has an object. */
function readParameters(wire: unknown): ParametersSchema {
  const parameters = record(wire) ?? {};
  const required = texts(parameters.required);
  const properties = Array.isArray(parameters.properties)
    ? parameters.properties
      .filter((pair): pair is [string, unknown] => Array.isArray(pair) && typeof pair[0] === "string")
      .map(([name, property]) => [name, readPythonProperty(property, required.includes(name))] as const)
    : Object.entries(record(parameters.properties) ?? {});
  return { ...parameters, type: "object", properties: Object.fromEntries(properties), required };
}

function readPythonProperty(wire: unknown, required: boolean): unknown {
  const { type, description, default: value } = record(wire) ?? {};
  return {
    ...(typeof type === "string" && Object.hasOwn(jsonTypes, type) ? { type: jsonTypes[type] } : {}),
    ...(text(description) === "" ? {} : { description }),
    // Python fills in an empty text where there is no default.
    ...(required ? {} : { default: value }),
  };
}

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Record<string, unknown>
    : undefined;
}

/** Those of a list that are texts. */
function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
