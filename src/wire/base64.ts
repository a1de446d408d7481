/**
 * Base64 between bytes and bytes, padded, in either alphabet. Payloads are text that never becomes a string here.
 *
 * @module
 */

/** `base64` ends in `+` and `/`, `base64url` in `-` and `_`. */
export type Base64Alphabet = "base64" | "base64url";

/** Newer runtimes have it, and it is ten times as fast for large bodies. */
interface NativeEncoder {
  toBase64?(options: { alphabet: Base64Alphabet }): string;
}

const encoder = new TextEncoder();
const PADDING = 0x3d;
const UNKNOWN = 0xff;

const common = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const digits = {
  base64: encoder.encode(`${common}+/`),
  base64url: encoder.encode(`${common}-_`),
} as const;

/** The six bits of each digit, of both alphabets: Python's reader takes either, too. */
const values = new Uint8Array(256).fill(UNKNOWN);
for (const alphabet of [digits.base64, digits.base64url]) {
  alphabet.forEach((digit, value) => values[digit] = value);
}

/** How many bytes `length` bytes become. */
export function encodedLength(length: number): number {
  return Math.ceil(length / 3) * 4;
}

/** Writes bytes as base64 text into `target`, from `offset` on; there must be room for `encodedLength` of them. */
export function encodeBase64Into(
  bytes: Uint8Array,
  alphabet: Base64Alphabet,
  target: Uint8Array,
  offset: number,
): void {
  const text = (bytes as NativeEncoder).toBase64?.({ alphabet });
  if (text !== undefined) encoder.encodeInto(text, target.subarray(offset));
  else encodePortably(bytes, digits[alphabet], target, offset);
}

/** Bytes as base64 text. */
export function encodeBase64(bytes: Uint8Array, alphabet: Base64Alphabet): Uint8Array<ArrayBuffer> {
  const target = new Uint8Array(encodedLength(bytes.length));
  encodeBase64Into(bytes, alphabet, target, 0);
  return target;
}

function encodePortably(bytes: Uint8Array, alphabet: Uint8Array, target: Uint8Array, offset: number): void {
  const rest = bytes.length % 3;
  const whole = bytes.length - rest;
  let to = offset;
  for (let from = 0; from < whole; from += 3) {
    const bits = bytes[from]! << 16 | bytes[from + 1]! << 8 | bytes[from + 2]!;
    target[to++] = alphabet[bits >> 18]!;
    target[to++] = alphabet[bits >> 12 & 63]!;
    target[to++] = alphabet[bits >> 6 & 63]!;
    target[to++] = alphabet[bits & 63]!;
  }
  if (rest === 0) return;
  const bits = bytes[whole]! << 16 | (rest === 2 ? bytes[whole + 1]! << 8 : 0);
  target[to++] = alphabet[bits >> 18]!;
  target[to++] = alphabet[bits >> 12 & 63]!;
  target[to++] = rest === 2 ? alphabet[bits >> 6 & 63]! : PADDING;
  target[to] = PADDING;
}

/**
 * The bytes of a base64 text, or `undefined` when it is none: unpadded, or with anything else in it, were it only
 * white space. Not left to the runtimes, since some of them skip that.
 */
export function decodeBase64(text: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  const { length } = text;
  if (length % 4 !== 0) return undefined;
  if (length === 0) return new Uint8Array(0);
  const padding = text[length - 1] !== PADDING ? 0 : text[length - 2] !== PADDING ? 1 : 2;
  const bytes = new Uint8Array(length / 4 * 3 - padding);
  const whole = padding === 0 ? length : length - 4;
  let seen = 0;
  let to = 0;
  for (let from = 0; from < whole; from += 4) {
    const first = values[text[from]!]!;
    const second = values[text[from + 1]!]!;
    const third = values[text[from + 2]!]!;
    const fourth = values[text[from + 3]!]!;
    // A digit has six bits: one that has more is none.
    seen |= first | second | third | fourth;
    bytes[to++] = first << 2 | second >> 4;
    bytes[to++] = second << 4 | third >> 2;
    bytes[to++] = third << 6 | fourth;
  }
  if (padding > 0) {
    const first = values[text[whole]!]!;
    const second = values[text[whole + 1]!]!;
    const third = padding === 1 ? values[text[whole + 2]!]! : 0;
    seen |= first | second | third;
    bytes[to++] = first << 2 | second >> 4;
    if (padding === 1) bytes[to] = second << 4 | third >> 2;
  }
  return seen > 63 ? undefined : bytes;
}
