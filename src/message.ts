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

/** A message with its address. */
export interface Message {
  /** The exchange it is published to; the empty string is the default exchange. */
  readonly exchange: string;
  /** The routing key: a service, a topic, or with the default exchange a queue. */
  readonly routingKey: string;
  /** Properties and headers. */
  readonly properties: MessageProperties;
  /** The payload. */
  readonly body: Uint8Array;
  /** The payload's size in bytes when it was over `maxMessageSize` and dropped on the way in. */
  readonly oversize?: number | undefined;
}

/** @throws {NuropbMessageError} when the body is larger than may be sent, in bytes. */
export function checkSize({ body }: Message, maxMessageSize: number): void {
  if (body.byteLength > maxMessageSize) {
    throw new NuropbMessageError(
      `The message's body of ${body.byteLength} bytes is larger than maxMessageSize, ${maxMessageSize} bytes`,
      { code: "MESSAGE_TOO_LARGE" },
    );
  }
}
