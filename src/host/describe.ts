/**
 * What a service tells of itself, as it goes over the wire.
 *
 * @module
 */
import type { StandardSchema } from "../options.ts";
import { stringifyObject } from "../wire/json.ts";
import type { HostedMethod, MethodOptions } from "./methods.ts";

/** What describes a service besides its methods. */
export interface ServiceFacts {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  /** SPKI PEM, or null. */
  readonly publicKey: string | null;
}

/** The answer to `nuropb_describe`. */
export function describeService(
  { name, version, description, publicKey }: ServiceFacts,
  methods: ReadonlyMap<string, HostedMethod>,
): Record<string, unknown> {
  const hosted = [...methods.values()];
  return {
    service_name: name,
    service_version: version,
    description,
    warnings: [],
    encrypted_methods: hosted.some(({ options }) => options.encrypted === true),
    public_key: publicKey,
    methods: Object.fromEntries(hosted.map(({ name, options }) => [name, describeMethod(options)])),
  };
}

function describeMethod(
  { description, encrypted, deprecated, params }: MethodOptions,
): Record<string, unknown> {
  return {
    description: description ?? "",
    requires_encryption: encrypted === true,
    ...(deprecated === undefined ? {} : { deprecated }),
    parameters: { type: "object", properties: {}, required: [], ...jsonSchemaOf(params) },
  };
}

/** The part of Standard JSON Schema 1 that is used here. */
interface StandardJsonSchema {
  readonly "~standard": {
    readonly jsonSchema?: {
      readonly input: (options: { readonly target: string }) => Record<string, unknown>;
    };
  };
}

/** What a schema says of the params it takes, where its library can tell, and in JSON. */
function jsonSchemaOf(schema: StandardSchema | undefined): Record<string, unknown> {
  try {
    const { jsonSchema } = (schema as StandardJsonSchema | undefined)?.["~standard"] ?? {};
    const told = jsonSchema?.input({ target: "draft-2020-12" }) ?? {};
    return JSON.parse(stringifyObject("The JSON Schema", told)) as Record<string, unknown>;
  } catch {
    // A schema with a transform or a check of its own has no JSON Schema; the method is described without.
    return {};
  }
}
