/**
 * An AMQP message as plain data: what the wire makes and the transport carries, each without knowing the other.
 *
 * @module
 */
import { NuropbMessageError } from "./errors.ts";

/** The AMQP properties that a mesh uses. */
export interface MessageProperties {
  /** MIME type of the body. */
  contentType?: string | undefined;
  /** 32 hex digits that tie an answer to its request. */
  correlationId?: string | undefined;
  /** The queue that the answer goes to. */
  replyTo?: string | undefined;
  /** How long the message may wait in a queue, in ms as a decimal string. */
  expiration?: string | undefined;
  /** Identifies a message that may be sent twice. */
  messageId?: string | undefined;
  /** Whether the broker writes it to disk in a durable queue. */
  persistent?: boolean | undefined;
  /** The header table. */
  headers: Record<string, unknown>;
}

/**
 * A payload: bytes, or a text that stands for its UTF-8. Most are short JSON, which is read from the socket's buffer and
 * written into it as text: bytes of their own would cost more than all the rest of their way.
 */
export type Body = Uint8Array | string;

/** A message with its address. */
export interface Message {
  /** The exchange it is published to; the empty string is the default exchange. */
  readonly exchange: string;
  /** The routing key: a service, a topic, or with the default exchange a queue. */
  readonly routingKey: string;
  /** Properties and headers. */
  readonly properties: MessageProperties;
  /** The payload. */
  readonly body: Body;
  /** The payload's size in bytes when it was over `maxMessageSize` and dropped on the way in. */
  readonly oversize?: number | undefined;
}

const encoder = new TextEncoder();

/** The most bytes that one of a string's characters takes in UTF-8. */
export const MAX_CHARACTER_BYTES = 3;

/** A payload as bytes. */
export function bytesOf(body: Body): Uint8Array {
  return typeof body === "string" ? encoder.encode(body) : body;
}

/** A payload's size in bytes, if that is larger than a limit. */
export function oversizeOf(body: Body, limit: number): number | undefined {
  if (typeof body === "string" && body.length * MAX_CHARACTER_BYTES <= limit) return undefined;
  const size = bytesOf(body).byteLength;
  return size > limit ? size : undefined;
}

/** @throws {NuropbMessageError} when the body is larger than may be sent, in bytes. */
export function checkSize({ body }: Message, maxMessageSize: number): void {
  const size = oversizeOf(body, maxMessageSize);
  if (size === undefined) return;
  throw new NuropbMessageError(
    `The message's body of ${size} bytes is larger than maxMessageSize, ${maxMessageSize} bytes`,
    { code: "MESSAGE_TOO_LARGE" },
  );
}
