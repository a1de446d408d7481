/**
 * Reads messages: the frames of a delivery or a return, up to its last byte. The client makes some twenty objects of
 * each, and waits a turn before it hands it on.
 *
 * @module
 */
import { AMQPView } from "@cloudamqp/amqp-client/amqp-view";
import type { Body, Message, MessageProperties } from "../message.ts";
import { readText, TextCache } from "./text.ts";

const METHOD = 1;
const CONTENT_HEADER = 2;
const CONTENT_BODY = 3;
const BASIC = 60;
const RETURN = 50;
const DELIVER = 60;
const FRAME_HEADER = 7;
const FRAME_OVERHEAD = 8;
const NOTHING = new Uint8Array(0);
/** Of a message whose content header is still to come. */
const NO_PROPERTIES: MessageProperties = { headers: {} };

/** The types of a field table's values that the mesh's own headers have. */
const [LONG_STRING, VOID] = [0x53, 0x56];
/** Up to this size a header's value may be one that comes again. */
const SHORT = 16;
/** From this many bytes on, the tables in a content header could be nested too deep for their reader. */
const LARGE_HEADER = 4_096;
/** How deep a header's tables are looked into. */
const MAX_HEADER_DEPTH = 16;

/** A message that came in on a channel. */
export interface Received extends Message {
  /** Whether the broker sends back what it could not route. */
  readonly isReturned: boolean;
  /** By which a delivery is settled. */
  readonly deliveryTag: number;
  readonly redelivered: boolean;
}

/** A message of which more is to come. */
type Incoming = { -readonly [Field in keyof Received]: Received[Field] };

/** How much of a body is still to come, as long as its size is not known. */
const UNKNOWN = -1;
/** Up to this size a body is read as text. */
const SMALL_BODY = 16_384;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** What a {@linkcode ContentReader} tells its owner. */
export interface ContentHandlers {
  /** A whole message. */
  onmessage(channel: number, message: Received): void;
  /** Whole frames of everything else. */
  onmethods(frames: Uint8Array): void;
}

/** Reads the frames of messages out of all frames. */
export class ContentReader {
  readonly #handlers: ContentHandlers;
  readonly #texts = new TextCache();
  /** By channel. */
  readonly #incoming: (Incoming | undefined)[] = [];
  /** How many bytes of the body are still to come, by channel. */
  readonly #left: number[] = [];
  /** The sizes of bodies that were dropped, by channel. */
  readonly #oversize = new Map<number, number>();
  #bytes: Uint8Array = NOTHING;
  #view: DataView = new DataView(NOTHING.buffer);
  #at = 0;

  /** @param handlers Told of messages, and of what is none. */
  constructor(handlers: ContentHandlers) {
    this.#handlers = handlers;
  }

  /** Says that the next message on a channel had a body of this size, in bytes, which does not come. */
  drop(channel: number, size: number): void {
    this.#oversize.set(channel, size);
  }

  /**
   * Takes whole frames, which are the caller's again afterwards.
   *
   * @throws {Error} when a message's frames are not those that AMQP has.
   */
  read(frames: Uint8Array): void {
    this.#bytes = frames;
    const view = this.#view = new DataView(frames.buffer, frames.byteOffset, frames.byteLength);
    let others = 0;
    for (let position = 0; position < frames.byteLength;) {
      const end = position + view.getUint32(position + 3) + FRAME_OVERHEAD;
      if (isContent(view, position, end)) {
        if (position > others) this.#handlers.onmethods(frames.subarray(others, position));
        others = end;
        this.#readFrame(position, end);
      }
      position = end;
    }
    if (others < frames.byteLength) this.#handlers.onmethods(frames.subarray(others));
  }

  #readFrame(position: number, end: number): void {
    const view = this.#view;
    const channel = view.getUint16(position + 1);
    this.#at = position + FRAME_HEADER;
    if (view.getUint8(position) === METHOD) {
      this.#incoming[channel] = this.#readMethod();
      this.#left[channel] = UNKNOWN;
      return;
    }
    const incoming = this.#incoming[channel];
    const isHeader = view.getUint8(position) === CONTENT_HEADER;
    const dropped = isHeader ? this.#takeOversize(channel) : undefined;
    if (incoming === undefined) return;
    let left = this.#left[channel]!;
    if (isHeader) {
      left = view.getUint32(position + 11) * 2 ** 32 + view.getUint32(position + 15);
      incoming.properties = this.#readProperties(position + 19, end - 1);
      incoming.oversize = dropped;
    } else {
      const part = this.#bytes.subarray(position + FRAME_HEADER, end - 1);
      if (left === UNKNOWN) throw new Error("a body without its header");
      if (part.byteLength > left) {
        throw new Error(
          `a body larger than its header told: ${part.byteLength} bytes where ${left} were left`,
        );
      }
      incoming.body = bodyWith(incoming.body, part, left);
      left -= part.byteLength;
    }
    this.#left[channel] = left;
    if (left > 0) return;
    this.#incoming[channel] = undefined;
    this.#handlers.onmessage(channel, incoming);
  }

  #readMethod(): Incoming {
    const view = this.#view;
    const isReturned = view.getUint16(this.#at + 2) === RETURN;
    this.#at += 4;
    let deliveryTag = 0;
    let redelivered = false;
    if (isReturned) {
      // Reply code and text.
      this.#at += 2;
      this.#readShortString();
    } else {
      // The consumer's tag: a channel has one consumer.
      this.#readShortString();
      deliveryTag = view.getUint32(this.#at) * 2 ** 32 + view.getUint32(this.#at + 4);
      redelivered = view.getUint8(this.#at + 8) === 1;
      this.#at += 9;
    }
    return {
      isReturned,
      deliveryTag,
      redelivered,
      exchange: this.#readShortString(),
      routingKey: this.#readShortString(),
      oversize: undefined,
      properties: NO_PROPERTIES,
      body: "",
    };
  }

  #readProperties(start: number, end: number): MessageProperties {
    this.#at = start;
    const properties: MessageProperties = {
      contentType: undefined,
      correlationId: undefined,
      replyTo: undefined,
      expiration: undefined,
      messageId: undefined,
      persistent: false,
      headers: {},
    };
    try {
      const flags = this.#view.getUint16(start);
      this.#at += 2;
      if (flags & 0x8000) properties.contentType = this.#readShortString();
      // The content's encoding.
      if (flags & 0x4000) this.#readShortString();
      if (flags & 0x2000) properties.headers = this.#readTable();
      if (flags & 0x1000) properties.persistent = this.#view.getUint8(this.#at++) === 2;
      // The priority.
      if (flags & 0x0800) this.#at++;
      if (flags & 0x0400) properties.correlationId = this.#readUniqueString();
      if (flags & 0x0200) properties.replyTo = this.#readShortString();
      if (flags & 0x0100) properties.expiration = this.#readShortString();
      if (flags & 0x0080) properties.messageId = this.#readUniqueString();
      if (this.#at > end) throw new RangeError("Properties larger than their frame");
      return properties;
    } catch (error) {
      if (end - start < LARGE_HEADER) throw error;
      // Were the connection to end, the same message would come again over the next one.
      return { headers: {} };
    }
  }

  #readShortString(): string {
    const size = this.#view.getUint8(this.#at);
    const text = this.#texts.read(this.#bytes, this.#at + 1, size);
    this.#at += size + 1;
    return text;
  }

  #readUniqueString(): string {
    const size = this.#view.getUint8(this.#at);
    const text = readText(this.#bytes, this.#at + 1, size);
    this.#at += size + 1;
    return text;
  }

  /** Reads a table of texts, or else leaves it to the client's reader. */
  #readTable(): Record<string, unknown> {
    const view = this.#view;
    const start = this.#at;
    const end = start + 4 + view.getUint32(start);
    const table: Record<string, unknown> = {};
    for (this.#at = start + 4; this.#at < end;) {
      const key = this.#readShortString();
      const type = view.getUint8(this.#at++);
      if (type === LONG_STRING) {
        const size = view.getUint32(this.#at);
        this.#at += 4;
        table[key] = size <= SHORT
          ? this.#texts.read(this.#bytes, this.#at, size)
          : readText(this.#bytes, this.#at, size);
        this.#at += size;
      } else if (type === VOID) {
        if (key !== "__proto__") table[key] = null;
      } else {
        this.#at = end;
        const [mixed] = new TableView(view.buffer, view.byteOffset, view.byteLength).getTable(start);
        return detach(mixed) as Record<string, unknown>;
      }
    }
    return table;
  }

  #takeOversize(channel: number): number | undefined {
    if (this.#oversize.size === 0) return undefined;
    const size = this.#oversize.get(channel);
    this.#oversize.delete(channel);
    return size;
  }
}

/** The client's reader, which leaves out a field that would become the prototype of its table. */
class TableView extends AMQPView {
  override getTable(at: number): ReturnType<AMQPView["getTable"]> {
    const end = at + 4 + this.getUint32(at);
    const table: ReturnType<AMQPView["getTable"]>[0] = {};
    for (let position = at + 4; position < end;) {
      const [key, keySize] = this.getShortString(position);
      const [value, size] = this.getField(position + keySize);
      position += keySize + size;
      if (key !== "__proto__") table[key] = value;
    }
    return [table, end - at];
  }
}

/** A body with its next part, of which so many bytes were still to come. */
function bodyWith(body: Body, part: Uint8Array, left: number): Body {
  if (typeof body !== "string") {
    body.set(part, body.byteLength - left);
    return body;
  }
  if (part.byteLength === left && left <= SMALL_BODY) {
    try {
      return decoder.decode(part);
    } catch {
      // Not UTF-8: bytes, then.
    }
  }
  const bytes = new Uint8Array(left);
  bytes.set(part);
  return bytes;
}

function isContent(view: DataView, position: number, end: number): boolean {
  const type = view.getUint8(position);
  if (type === CONTENT_HEADER || type === CONTENT_BODY) return true;
  if (type !== METHOD || end - position < FRAME_OVERHEAD + 4) return false;
  if (view.getUint16(position + FRAME_HEADER) !== BASIC) return false;
  const method = view.getUint16(position + FRAME_HEADER + 2);
  return method === DELIVER || method === RETURN;
}

/** Copies byte arrays, which the client leaves pointing into the socket's buffer. */
function detach(value: unknown, depth = 0): unknown {
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (depth === MAX_HEADER_DEPTH) return null;
  if (Array.isArray(value)) return value.map((item) => detach(item, depth + 1));
  for (const [key, field] of Object.entries(value)) {
    if (typeof field === "object") (value as Record<string, unknown>)[key] = detach(field, depth + 1);
  }
  return value;
}
