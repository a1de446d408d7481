/**
 * Writes messages: `basic.publish` with its content header and body, put together in one place.
 *
 * @module
 */
import { AMQPView } from "@cloudamqp/amqp-client/amqp-view";
import { NuropbMessageError } from "../errors.ts";
import type { Message } from "../message.ts";
import { writeText } from "./text.ts";
import type { WriteBuffer } from "./write_buffer.ts";

const METHOD = 1;
const CONTENT_HEADER = 2;
const CONTENT_BODY = 3;
const FRAME_END = 0xce;
const BASIC = 60;
const PUBLISH = 40;
const FRAME_HEADER = 7;
const FRAME_OVERHEAD = 8;
const MAX_SHORT_STRING = 255;
/** The types of a field table's values that the mesh's own headers have. */
const [LONG_STRING, VOID] = [0x53, 0x56];
/** Up to this size a body is put together with what stands before it. */
const SMALL_BODY = 16_384;

/** Writes to one connection. */
export class ContentWriter {
  readonly #output: WriteBuffer;
  readonly #bytes: Uint8Array;
  readonly #view: AMQPView;

  /** @param output Where messages go. @param frameMax The largest frame, in bytes. */
  constructor(output: WriteBuffer, frameMax: number) {
    this.#output = output;
    // A method frame stands before the header's.
    this.#bytes = new Uint8Array(frameMax + 2 * MAX_SHORT_STRING + SMALL_BODY + 64);
    this.#view = new AMQPView(this.#bytes.buffer);
  }

  /**
   * Queues a message.
   *
   * @param frameMax The largest frame that the broker takes, in bytes.
   * @throws {NuropbMessageError} when its properties and headers do not fit a frame.
   */
  write(channel: number, message: Message, mandatory: boolean, frameMax: number): void {
    const { body } = message;
    const bytes = this.#bytes;
    let at = this.#writeMethod(channel, message, mandatory);
    const header = at;
    try {
      at = this.#writeHeader(channel, message, at);
    } catch (cause) {
      throw headersTooLarge(frameMax, cause);
    }
    if (at - header > frameMax) throw headersTooLarge(frameMax, undefined);
    const part = frameMax - FRAME_OVERHEAD;
    if (body.byteLength <= Math.min(part, SMALL_BODY)) {
      if (body.byteLength > 0) {
        this.#writeFrameHeader(at, CONTENT_BODY, channel, body.byteLength);
        bytes.set(body, at + FRAME_HEADER);
        at += FRAME_HEADER + body.byteLength;
        bytes[at++] = FRAME_END;
      }
      return this.#output.append(bytes, at);
    }
    this.#output.reserve(at + body.byteLength + Math.ceil(body.byteLength / part) * FRAME_OVERHEAD);
    this.#output.append(bytes, at);
    for (let position = 0; position < body.byteLength; position += part) {
      const content = body.subarray(position, position + part);
      this.#writeFrameHeader(0, CONTENT_BODY, channel, content.byteLength);
      this.#output.append(bytes, FRAME_HEADER);
      this.#output.append(content);
      bytes[0] = FRAME_END;
      this.#output.append(bytes, 1);
    }
  }

  #writeMethod(channel: number, { exchange, routingKey }: Message, mandatory: boolean): number {
    const view = this.#view;
    view.setUint16(FRAME_HEADER, BASIC);
    view.setUint16(FRAME_HEADER + 2, PUBLISH);
    // A field that AMQP keeps for later.
    view.setUint16(FRAME_HEADER + 4, 0);
    let at = this.#writeShortString(FRAME_HEADER + 6, exchange);
    at = this.#writeShortString(at, routingKey);
    view.setUint8(at++, mandatory ? 1 : 0);
    this.#writeFrameHeader(0, METHOD, channel, at - FRAME_HEADER);
    view.setUint8(at++, FRAME_END);
    return at;
  }

  #writeHeader(channel: number, { properties, body }: Message, start: number): number {
    const view = this.#view;
    const { contentType, correlationId, replyTo, expiration, messageId, persistent, headers } = properties;
    let at = start + FRAME_HEADER;
    view.setUint16(at, BASIC);
    view.setUint16(at + 2, 0);
    view.setUint32(at + 4, 0);
    view.setUint32(at + 8, body.byteLength);
    const flagsAt = at + 12;
    at += 14;
    let flags = 0x2000;
    if (contentType) {
      flags |= 0x8000;
      at = this.#writeShortString(at, contentType);
    }
    at = this.#writeTable(at, headers);
    if (persistent === true) {
      flags |= 0x1000;
      view.setUint8(at++, 2);
    }
    if (correlationId) {
      flags |= 0x0400;
      at = this.#writeShortString(at, correlationId);
    }
    if (replyTo) {
      flags |= 0x0200;
      at = this.#writeShortString(at, replyTo);
    }
    if (expiration) {
      flags |= 0x0100;
      at = this.#writeShortString(at, expiration);
    }
    if (messageId) {
      flags |= 0x0080;
      at = this.#writeShortString(at, messageId);
    }
    view.setUint16(flagsAt, flags);
    this.#writeFrameHeader(start, CONTENT_HEADER, channel, at - start - FRAME_HEADER);
    view.setUint8(at++, FRAME_END);
    return at;
  }

  #writeFrameHeader(at: number, type: number, channel: number, size: number): void {
    const view = this.#view;
    view.setUint8(at, type);
    view.setUint16(at + 1, channel);
    view.setUint32(at + 3, size);
  }

  #writeShortString(at: number, text: string): number {
    const size = writeText(this.#bytes, at + 1, text);
    if (size > MAX_SHORT_STRING) throw new RangeError(`A short string of ${size} bytes`);
    this.#view.setUint8(at, size);
    return at + 1 + size;
  }

  /** Writes a table of texts, or else leaves it to the client's writer. */
  #writeTable(start: number, table: Readonly<Record<string, unknown>>): number {
    const view = this.#view;
    let at = start + 4;
    for (const key in table) {
      const value = table[key];
      if (value === undefined || !Object.hasOwn(table, key)) continue;
      if (typeof value === "string") {
        at = this.#writeShortString(at, key);
        view.setUint8(at, LONG_STRING);
        const size = writeText(this.#bytes, at + 5, value);
        view.setUint32(at + 1, size);
        at += 5 + size;
      } else if (value === null) {
        at = this.#writeShortString(at, key);
        view.setUint8(at++, VOID);
      } else return start + view.setTable(start, table as Parameters<AMQPView["setTable"]>[1]);
    }
    view.setUint32(start, at - start - 4);
    return at;
  }
}

/** The error for headers that fit no frame. */
function headersTooLarge(frameMax: number, cause: unknown): NuropbMessageError {
  return new NuropbMessageError(
    `The message's properties and headers must fit one frame of ${frameMax} bytes: put less into them`,
    { code: "MESSAGE_TOO_LARGE", cause },
  );
}
