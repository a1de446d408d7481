/**
 * Random identifiers.
 *
 * @module
 */

const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Makes identifiers of 128 random bits as 32 hex digits. One call for random bytes serves 256 of them. */
export class IdSource {
  readonly #pool = new Uint8Array(4096);
  #used = 4096;

  /** The next identifier. */
  next(): string {
    if (this.#used === this.#pool.length) {
      crypto.getRandomValues(this.#pool);
      this.#used = 0;
    }
    let id = "";
    for (const end = this.#used + 16; this.#used < end; this.#used++) id += hex[this.#pool[this.#used]!];
    return id;
  }
}
