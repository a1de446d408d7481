/**
 * Joins writes: everything appended in one turn leaves in one write.
 *
 * @module
 */

const SLAB_SIZE = 65_536;
const QUIET_TURNS = 2;

/** Collects bytes and hands them on once the running microtasks are through. */
export class WriteBuffer {
  readonly #write: (bytes: Uint8Array) => void;
  /** Handed-on parts of a slab belong to the socket, so a slab is filled once and never reused. */
  #slab = new Uint8Array(SLAB_SIZE);
  #start = 0;
  #end = 0;
  #scheduled = false;
  /** How many turns of the microtask queue have passed without anything new. */
  #quiet = 0;

  /** @param write Takes the joined bytes. */
  constructor(write: (bytes: Uint8Array) => void) {
    this.#write = write;
  }

  /** Copies the bytes, so the caller may reuse them at once. */
  append(bytes: Uint8Array): void {
    if (bytes.byteLength > this.#slab.byteLength - this.#end) this.#renew(bytes.byteLength);
    this.#slab.set(bytes, this.#end);
    this.#end += bytes.byteLength;
    this.#quiet = 0;
    if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(this.#flushScheduled);
    }
  }

  /** Hands on what there is, now. */
  flush(): void {
    if (this.#start === this.#end) return;
    const bytes = this.#slab.subarray(this.#start, this.#end);
    this.#start = this.#end;
    // One large message is no reason to keep its memory.
    if (this.#slab.byteLength > SLAB_SIZE) this.#renew(0);
    this.#write(bytes);
  }

  readonly #flushScheduled = (): void => {
    // What was appended first is mostly one of many answers that came in together, whose callers go on now.
    if (this.#quiet++ < QUIET_TURNS && this.#end - this.#start < SLAB_SIZE / 2) {
      queueMicrotask(this.#flushScheduled);
      return;
    }
    this.#scheduled = false;
    this.flush();
  };

  #renew(needed: number): void {
    const pending = this.#end - this.#start;
    const slab = new Uint8Array(Math.max(SLAB_SIZE, 2 * (pending + needed)));
    slab.set(this.#slab.subarray(this.#start, this.#end));
    this.#slab = slab;
    this.#start = 0;
    this.#end = pending;
  }
}
