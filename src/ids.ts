/**
 * Random identifiers.
 *
 * @module
 */

const digits = new TextEncoder().encode("0123456789abcdef");

/**
 * One identifier, where there is no need of many at once. Not `crypto.randomUUID`: pages have that in secure contexts
 * alone, which plain http is not.
 */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Makes identifiers of 128 random bits as 32 hex digits. One call for random bytes serves 256 of them. */
export class IdSource {
  readonly #pool = new Uint8Array(4096);
  #used = 4096;
  /** The digits' character codes: put together at once, since a text made bit by bit takes as much again to join. */
  readonly #codes: number[] = new Array<number>(32).fill(0);

  /** The next identifier. */
  next(): string {
    if (this.#used === this.#pool.length) {
      crypto.getRandomValues(this.#pool);
      this.#used = 0;
    }
    const codes = this.#codes;
    for (let digit = 0; digit < 32; digit += 2) {
      const byte = this.#pool[this.#used++]!;
      codes[digit] = digits[byte >> 4]!;
      codes[digit + 1] = digits[byte & 15]!;
    }
    return String.fromCharCode.apply(null, codes);
  }
}
