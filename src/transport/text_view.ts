/**
 * The client's view of bytes, with short texts read and written by hand: nearly all of AMQP's are ASCII of a few
 * bytes, for which calling the runtime's encoder and decoder costs more than the work itself.
 *
 * @module
 */
import { AMQPView } from "@cloudamqp/amqp-client/amqp-view";

/** From this many characters on, the runtime is the faster one. */
const LONG = 64;
const MAX_SHORT_STRING = 255;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** An {@linkcode AMQPView} that spares most calls of the runtime. */
export class TextView extends AMQPView {
  readonly #bytes: Uint8Array;

  /** @param bytes What is viewed. */
  constructor(bytes: Uint8Array) {
    super(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#bytes = bytes;
  }

  override getShortString(at: number): [string, number] {
    const size = this.getUint8(at);
    return [this.#read(at + 1, size), size + 1];
  }

  override getLongString(at: number): [string, number] {
    const size = this.getUint32(at);
    return [this.#read(at + 4, size), size + 4];
  }

  override setShortString(at: number, text: string): number {
    const size = this.#write(at + 1, text);
    if (size > MAX_SHORT_STRING) throw new RangeError(`A short string of ${size} bytes`);
    this.setUint8(at, size);
    return size + 1;
  }

  override setLongString(at: number, text: string): number {
    const size = this.#write(at + 4, text);
    this.setUint32(at, size);
    return size + 4;
  }

  #read(start: number, size: number): string {
    const bytes = this.#bytes;
    const end = start + size;
    if (end > bytes.byteLength) throw new RangeError(`A text of ${size} bytes, of which some are missing`);
    if (size < LONG) {
      let position = start;
      while (position < end && bytes[position]! < 0x80) position++;
      if (position === end) return String.fromCharCode.apply(null, bytes.subarray(start, end) as never);
    }
    return decoder.decode(bytes.subarray(start, end));
  }

  /** Gives the size in bytes. */
  #write(start: number, text: string): number {
    const bytes = this.#bytes;
    const { length } = text;
    if (start + length > bytes.byteLength) throw new RangeError(`No room for a text of ${length} characters`);
    if (length < LONG) {
      let index = 0;
      for (; index < length; index++) {
        const code = text.charCodeAt(index);
        if (code >= 0x80) break;
        bytes[start + index] = code;
      }
      if (index === length) return length;
    }
    const { read, written } = encoder.encodeInto(text, bytes.subarray(start));
    if (read < length) throw new RangeError(`No room for a text of ${length} characters`);
    return written;
  }
}
