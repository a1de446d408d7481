/**
 * The four messages of NuroPb's wire, protocol 0.1.1, to and from AMQP messages.
 *
 * @module
 */
import type { MeshResponse } from "../calls.ts";
import { NuropbMessageError } from "../errors.ts";
import type { Body, Message } from "../message.ts";
import { show } from "../options.ts";
import { parse, quote, stringify, stringifyObject, stringifyRead } from "./json.ts";
import type { Integers } from "./json.ts";

/** The only protocol version that a Python peer accepts. */
export const PROTOCOL_VERSION = "0.1.1";
/** The version of this library. */
export const LIBRARY_VERSION = "0.1.0";
/**
 * What every message of ours says of its sender. Python's peers take any text; ours see by its start that the sender
 * reads answers without headers, of which the broker would take each apart.
 */
const SENDER = `mesh/${LIBRARY_VERSION}`;

/** The method by which every service describes itself. */
export const DESCRIBE_METHOD = "nuropb_describe";

/** Free fields that travel with a message. */
export type WireContext = Record<string, unknown>;

/** A request, which is answered, or a command, which is not. */
export interface Call {
  readonly type: "request" | "command";
  readonly service: string;
  readonly method: string;
  readonly params: Record<string, unknown>;
  readonly context: WireContext;
  readonly correlationId: string;
  readonly traceId: string | null;
  /** Where the answer goes; absent in a command of ours. */
  readonly replyTo?: string | undefined;
  /** How long it may take, in ms, as the caller said. */
  readonly ttl?: number | undefined;
  /** Whether its sender reads answers without headers. */
  readonly readsBare?: boolean;
}

/** Something that happened. */
export interface Event {
  readonly type: "event";
  readonly topic: string;
  readonly event: unknown;
  readonly context: WireContext;
  readonly correlationId: string;
  readonly traceId: string | null;
  readonly target: string[] | null;
}

type MessageType = Call["type"] | Event["type"] | "response";

/**
 * What each body must have, and of which kind. Python's services hang on a message that lacks one, but take a context
 * of null.
 */
const callFields = [
  ["service", "string"],
  ["method", "string"],
  ["params", "object"],
  ["context", "object"],
  ["correlation_id", "string"],
] as const;
const requiredFields: Readonly<
  Record<MessageType, readonly (readonly [field: string, kind: "string" | "object"])[]>
> = {
  request: callFields,
  command: callFields,
  event: [["topic", "string"], ["context", "object"], ["correlation_id", "string"]],
  response: [],
};

/**
 * A request or command as it goes to the broker.
 *
 * @throws {NuropbValidationError} when params or context hold what JSON cannot carry.
 */
export function encodeCall(call: Call, exchange: string): Message {
  const { type, service, method, context, correlationId, traceId } = call;
  return {
    exchange,
    routingKey: service,
    properties: {
      contentType: "application/json",
      correlationId,
      replyTo: call.replyTo,
      expiration: call.ttl === undefined ? undefined : String(call.ttl),
      messageId: type === "command" ? correlationId : undefined,
      persistent: type === "command",
      headers: headers(type, traceId),
    },
    body: `{"tag":"${type}","service":${quote(service)},"method":${quote(method)},` +
      `"params":${stringifyObject("params", call.params)},"correlation_id":"${correlationId}",` +
      `"context":${stringifyObject("context", context)},"trace_id":${quoteOrNull(traceId)}}`,
  };
}

/**
 * An event as it goes to the broker.
 *
 * @throws {NuropbValidationError} when event or context hold what JSON cannot carry.
 */
export function encodeEvent(event: Event, exchange: string): Message {
  const { topic, context, correlationId, traceId, target } = event;
  return {
    exchange,
    routingKey: topic,
    properties: {
      contentType: "application/json",
      correlationId,
      messageId: correlationId,
      persistent: true,
      headers: headers("event", traceId),
    },
    body: `{"tag":"event","topic":${quote(topic)},"event":${stringify("event", event.event)},` +
      `"context":${stringifyObject("context", context)},"trace_id":${quoteOrNull(traceId)},` +
      `"correlation_id":"${correlationId}","target":${JSON.stringify(target)}}`,
  };
}

/**
 * An answer as it goes to the broker, through the default exchange.
 *
 * @param isBare Whether it goes without headers.
 * @throws {NuropbValidationError} when the result holds what JSON cannot carry.
 */
export function encodeResponse(response: MeshResponse, replyTo: string, isBare = false): Message {
  const { result, error, correlationId, traceId, context, warning } = response;
  return {
    exchange: "",
    routingKey: replyTo,
    properties: {
      contentType: "application/json",
      correlationId,
      headers: isBare ? {} : headers("response", traceId),
    },
    body: `{"tag":"response","result":${stringify("result", result)},` +
      `"error":${error === null ? "null" : JSON.stringify(error)},` +
      `"correlation_id":${quote(correlationId)},"trace_id":${quoteOrNull(traceId)},` +
      `"context":${stringifyRead(context)},"warning":${quoteOrNull(warning)},"reply_to":${quote(replyTo)}}`,
  };
}

/** Whether a message's body is encrypted. */
export function isEncrypted({ properties }: Message): boolean {
  return properties.headers["encrypted"] === "yes";
}

/** The same message with an encrypted body. */
export function withEncryptedBody(message: Message, body: Uint8Array): Message {
  const { properties } = message;
  return {
    ...message,
    body,
    properties: { ...properties, headers: { ...properties.headers, encrypted: "yes" } },
  };
}

/** The same answer, marked: the request was not read, and may be sent in another way. Python ignores the header. */
export function asRefusal(message: Message): Message {
  const { properties } = message;
  return {
    ...message,
    properties: { ...properties, headers: { ...properties.headers, nuropb_refused: "yes" } },
  };
}

/** Whether an answer says that the request was not read. */
export function isRefusal({ properties }: Message): boolean {
  return properties.headers["nuropb_refused"] === "yes";
}

function quoteOrNull(text: string | null): string {
  return text === null ? "null" : quote(text);
}

function headers(type: MessageType, traceId: string | null): Record<string, unknown> {
  return {
    nuropb_protocol: PROTOCOL_VERSION,
    nuropb_version: SENDER,
    nuropb_type: type,
    trace_id: traceId,
    encrypted: "",
  };
}

/**
 * Reads what came in on a service's queue.
 *
 * @param body The decrypted body of an encrypted message.
 * @throws {NuropbMessageError} when it is none of NuroPb's, of another version, or lacks something.
 */
export function decodeServiceMessage(
  message: Message,
  body: Body = message.body,
  integers?: Integers,
): Call | Event {
  const type = readType(message);
  if (type === "response") throw new NuropbMessageError("A response came in on a service's queue");
  return type === "event" ? decodeEvent(message, integers) : decodeCall(type, message, body, integers);
}

function decodeCall(type: Call["type"], message: Message, payload: Body, integers?: Integers): Call {
  const body = readBody(type, message, payload, integers);
  const { replyTo, expiration, headers: { nuropb_version: sender } } = message.properties;
  return {
    type,
    service: body.service as string,
    method: body.method as string,
    params: body.params as Record<string, unknown>,
    context: body.context as WireContext,
    correlationId: body.correlation_id as string,
    traceId: readTraceId(body),
    replyTo: replyTo === "" ? undefined : replyTo,
    ttl: expiration !== undefined && /^\d+$/.test(expiration) ? Number(expiration) : undefined,
    readsBare: typeof sender === "string" && sender.startsWith("mesh/"),
  };
}

/**
 * Reads an event.
 *
 * @throws {NuropbMessageError} when it is no event, of another version, or lacks something.
 */
export function decodeEvent(message: Message, integers?: Integers): Event {
  const type = readType(message);
  if (type !== "event") throw new NuropbMessageError(`Expected an event, but it is a ${type}`);
  const body = readBody("event", message, message.body, integers);
  return {
    type,
    topic: body.topic as string,
    event: body.event ?? null,
    context: body.context as WireContext,
    correlationId: body.correlation_id as string,
    traceId: readTraceId(body),
    target: Array.isArray(body.target) ? body.target.map(textOf) : null,
  };
}

/**
 * Reads an answer. Python's errors come as an object or, at times, as a text in `result` beside it.
 *
 * @throws {NuropbMessageError} when it is no answer, of another version, or lacks something.
 */
export function decodeResponse(
  message: Message,
  payload: Body = message.body,
  integers?: Integers,
): MeshResponse {
  const { nuropb_protocol: protocol, nuropb_type: marked } = message.properties.headers;
  const isBare = protocol === undefined && marked === undefined;
  const type = isBare ? "response" : readType(message);
  if (type !== "response") throw new NuropbMessageError(`Expected a response, but it is a ${type}`);
  const body = readBody("response", message, payload, integers);
  // Also of what was decrypted: the header alone does not tell that it is no request sent back.
  if (body.tag !== "response") {
    throw new NuropbMessageError(`Expected a response, but it is a ${show(body.tag)}`);
  }
  return {
    result: body.result ?? null,
    error: readError(body.error),
    correlationId: typeof body.correlation_id === "string"
      ? body.correlation_id
      : message.properties.correlationId ?? "",
    traceId: readTraceId(body),
    context: isRecord(body.context) ? body.context : {},
    warning: typeof body.warning === "string" ? body.warning : null,
  };
}

function readError(error: unknown): MeshResponse["error"] {
  if (error === null || error === undefined) return null;
  if (!isRecord(error)) return { error: "NuropbException", description: textOf(error) };
  return {
    error: typeof error.error === "string" ? error.error : "NuropbException",
    description: typeof error.description === "string" ? error.description : "",
  };
}

/** A text as it is, and anything else as JSON: an object of a peer's may have a `toString` that is none. */
function textOf(value: unknown): string {
  return typeof value === "string" ? value : stringifyRead(value);
}

function readType(message: Message): MessageType {
  const { nuropb_protocol: protocol, nuropb_type: type } = message.properties.headers;
  if (protocol !== PROTOCOL_VERSION) {
    throw new NuropbMessageError(
      `The header nuropb_protocol must be ${PROTOCOL_VERSION}, but is ${show(protocol)}`,
    );
  }
  if (typeof type !== "string" || !Object.hasOwn(requiredFields, type)) {
    throw new NuropbMessageError(
      `The header nuropb_type must be request, command, event or response, but is ${show(type)}`,
    );
  }
  return type as MessageType;
}

function readBody(
  type: MessageType,
  message: Message,
  payload: Body,
  integers?: Integers,
): Record<string, unknown> {
  if (message.oversize !== undefined) {
    throw new NuropbMessageError(
      `The ${type}'s body of ${message.oversize} bytes is larger than maxMessageSize allows`,
      { code: "MESSAGE_TOO_LARGE" },
    );
  }
  const body = parse(payload, integers);
  if (isRecord(body) && body["context"] === null) body["context"] = {};
  if (!isRecord(body)) throw new NuropbMessageError(`The body must be an object, but is ${show(body)}`);
  for (const [field, kind] of requiredFields[type]) {
    const value = body[field];
    if (kind === "string" ? typeof value !== "string" : !isRecord(value)) {
      throw new NuropbMessageError(`The ${type}'s ${field} must be of type ${kind}, but is ${show(value)}`);
    }
  }
  return body;
}

function readTraceId(body: Record<string, unknown>): string | null {
  return typeof body.trace_id === "string" ? body.trace_id : null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
