/**
 * AMQP's texts, read and written by hand: nearly all of them are ASCII of a few bytes, for which calling the runtime's
 * encoder and decoder costs more than the work itself.
 *
 * @module
 */

/** From this many characters on, the runtime is the faster one. */
const LONG = 64;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
/** Character codes of a text, by their number, to be filled anew for each text. */
const codesBySize = Array.from({ length: LONG }, (_, size) => new Array<number>(size).fill(0));

/** Reads UTF-8. @throws {RangeError} when the bytes end before. */
export function readText(bytes: Uint8Array, start: number, size: number): string {
  const end = start + size;
  if (end > bytes.byteLength) throw new RangeError(`A text of ${size} bytes, of which some are missing`);
  const codes = codesBySize[size];
  if (codes !== undefined) {
    let index = 0;
    for (; index < size; index++) {
      const byte = bytes[start + index]!;
      if (byte >= 0x80) break;
      codes[index] = byte;
    }
    if (index === size) return String.fromCharCode.apply(null, codes);
  }
  return decoder.decode(bytes.subarray(start, end));
}

/** Writes UTF-8 and gives its size in bytes. @throws {RangeError} when it does not fit. */
export function writeText(bytes: Uint8Array, start: number, text: string): number {
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

const SLOTS = 256;

/** Reads texts that come again and again, such as names, without making a new string of each. */
export class TextCache {
  readonly #texts = new Array<string>(SLOTS).fill("");

  /** Reads UTF-8. @throws {RangeError} when the bytes end before. */
  read(bytes: Uint8Array, start: number, size: number): string {
    if (size === 0) return "";
    const last = start + size - 1;
    if (last >= bytes.byteLength) return readText(bytes, start, size);
    const slot = (size * 31 + bytes[start]! * 7 + bytes[last]! * 13 + bytes[start + (size >> 1)]!) % SLOTS;
    const known = this.#texts[slot]!;
    if (known.length === size) {
      let index = 0;
      // What is no ASCII has fewer characters than bytes, or other ones.
      while (index < size && known.charCodeAt(index) === bytes[start + index]) index++;
      if (index === size) return known;
    }
    const text = readText(bytes, start, size);
    // Kept only if each byte is a character: one of another size could else look like these bytes.
    if (text.length === size) this.#texts[slot] = text;
    return text;
  }
}
