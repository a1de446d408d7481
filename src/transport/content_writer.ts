/**
 * Writes messages: `basic.publish` with its content header and body, put together in one place.
 *
 * @module
 */
import { AMQPView } from "@cloudamqp/amqp-client/amqp-view";
import { NuropbMessageError } from "../errors.ts";
import { bytesOf, MAX_CHARACTER_BYTES } from "../message.ts";
import type { Body, Message } from "../message.ts";
import { writeText } from "./text.ts";
import type { WriteBuffer } from "./write_buffer.ts";

const METHOD = 1;
const CONTENT_HEADER = 2;
const CONTENT_BODY = 3;
const FRAME_END = 0xce;
/** Class and method of `basic.publish`; class and weight of a content header. */
const [PUBLISH, CONTENT] = [0x003c0028, 0x003c0000];
const FRAME_HEADER = 7;
const FRAME_OVERHEAD = 8;
const MAX_SHORT_STRING = 255;
/** The types of a field table's values that the mesh's own headers have. */
const [LONG_STRING, VOID] = [0x53, 0x56];
/** Where in a content header's frame the lower half of the body's size stands. */
const BODY_SIZE = FRAME_HEADER + 8;
/** How many bytes a text may take to be written together with what stands before it. */
const SMALL_BODY = 32_768;
/** In so many bytes most methods and content headers fit. */
const COMMON_HEAD = 2_048;

/** Writes to one connection. */
export class ContentWriter {
  readonly #output: WriteBuffer;
  /** The output's own bytes, which messages are written into. */
  #bytes: Uint8Array;
  #view: AMQPView;

  /** @param output Where messages go. */
  constructor(output: WriteBuffer) {
    this.#output = output;
    this.#bytes = output.slab;
    this.#view = new AMQPView(this.#bytes.buffer);
  }

  /**
   * Queues a message.
   *
   * @param frameMax The largest frame that the broker takes, in bytes.
   * @throws {NuropbMessageError} when its properties and headers do not fit a frame.
   */
  write(channel: number, message: Message, mandatory: boolean, frameMax: number): void {
    const part = frameMax - FRAME_OVERHEAD;
    const body = largeAsBytes(message.body, Math.min(part, SMALL_BODY));
    const text = typeof body === "string" ? body.length * MAX_CHARACTER_BYTES + FRAME_OVERHEAD : 0;
    let end: number;
    try {
      end = this.#writeStart(channel, message, body, mandatory, frameMax, COMMON_HEAD + text);
    } catch {
      // What is larger than most gets room for all that there may be.
      try {
        end = this.#writeStart(channel, message, body, mandatory, frameMax, 2 * frameMax + text);
      } catch (cause) {
        throw headersTooLarge(frameMax, cause);
      }
    }
    this.#output.commit(end);
    if (typeof body !== "string") this.#writeParts(channel, body, part);
  }

  /** Writes a message, but for a body of bytes, and gives where it ends. None of it counts before it is committed. */
  #writeStart(
    channel: number,
    message: Message,
    body: Body,
    mandatory: boolean,
    frameMax: number,
    room: number,
  ): number {
    this.#reserve(room);
    const header = this.#writeMethod(channel, message, mandatory, this.#output.position);
    const end = this.#writeHeader(channel, message, header);
    if (end - header > frameMax) throw new RangeError(`A header of ${end - header} bytes`);
    const isText = typeof body === "string";
    const size = isText ? writeText(this.#bytes, end + FRAME_HEADER, body) : body.byteLength;
    this.#view.setUint32(header + BODY_SIZE, size);
    return isText && size > 0 ? this.#endFrame(end, CONTENT_BODY, channel, end + FRAME_HEADER + size) : end;
  }

  #writeParts(channel: number, body: Uint8Array, part: number): void {
    this.#reserve(body.byteLength + Math.ceil(body.byteLength / part) * FRAME_OVERHEAD);
    let at = this.#output.position;
    for (let position = 0; position < body.byteLength; position += part) {
      const content = body.subarray(position, position + part);
      this.#bytes.set(content, at + FRAME_HEADER);
      at = this.#endFrame(at, CONTENT_BODY, channel, at + FRAME_HEADER + content.byteLength);
    }
    this.#output.commit(at);
  }

  #reserve(size: number): void {
    this.#output.reserve(size);
    const { slab } = this.#output;
    if (slab === this.#bytes) return;
    this.#bytes = slab;
    this.#view = new AMQPView(slab.buffer);
  }

  #writeMethod(
    channel: number,
    { exchange, routingKey }: Message,
    mandatory: boolean,
    start: number,
  ): number {
    const view = this.#view;
    let at = start + FRAME_HEADER;
    view.setUint32(at, PUBLISH);
    // A field that AMQP keeps for later.
    view.setUint16(at + 4, 0);
    at = this.#writeShortString(at + 6, exchange);
    at = this.#writeShortString(at, routingKey);
    view.setUint8(at++, mandatory ? 1 : 0);
    return this.#endFrame(start, METHOD, channel, at);
  }

  /** The size of the body is filled in later. */
  #writeHeader(channel: number, { properties }: Message, start: number): number {
    const view = this.#view;
    const { contentType, correlationId, replyTo, expiration, messageId, persistent, headers } = properties;
    let at = start + FRAME_HEADER;
    view.setUint32(at, CONTENT);
    view.setUint32(at + 4, 0);
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
    return this.#endFrame(start, CONTENT_HEADER, channel, at);
  }

  /** Puts what frames a payload around it, and gives where the frame ends. */
  #endFrame(start: number, type: number, channel: number, end: number): number {
    const view = this.#view;
    view.setUint8(start, type);
    view.setUint16(start + 1, channel);
    view.setUint32(start + 3, end - start - FRAME_HEADER);
    view.setUint8(end, FRAME_END);
    return end + 1;
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

/** A body as it is, but for a text that may take more than so many bytes. */
function largeAsBytes(body: Body, most: number): Body {
  return body.length * MAX_CHARACTER_BYTES <= most ? body : bytesOf(body);
}

/** The error for headers that fit no frame. */
function headersTooLarge(frameMax: number, cause: unknown): NuropbMessageError {
  return new NuropbMessageError(
    `The message's properties and headers must fit one frame of ${frameMax} bytes: put less into them`,
    { code: "MESSAGE_TOO_LARGE", cause },
  );
}
