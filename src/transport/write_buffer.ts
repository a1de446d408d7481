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
  readonly #beforeFlush: Set<() => void> = new Set();
  /** Handed-on parts of a slab belong to the socket, so a slab is filled once and never reused. */
  #slab = new Uint8Array(SLAB_SIZE);
  #start = 0;
  /** Where the next bytes go. */
  #end = 0;
  #scheduled = false;
  /** How many turns of the microtask queue have passed without anything new. */
  #quiet = 0;

  /** @param write Takes the joined bytes. */
  constructor(write: (bytes: Uint8Array) => void) {
    this.#write = write;
  }

  /**
   * Copies the bytes, so the caller may reuse them at once.
   *
   * @param size How many of them.
   */
  append(bytes: Uint8Array, size: number = bytes.byteLength): void {
    this.reserve(size);
    this.#slab.set(size === bytes.byteLength ? bytes : bytes.subarray(0, size), this.#end);
    this.commit(this.#end + size);
  }

  /** The bytes themselves, for who writes in place: from `position` on, up to what was reserved. */
  get slab(): Uint8Array {
    return this.#slab;
  }

  /** Where the next bytes go. */
  get position(): number {
    return this.#end;
  }

  /** Takes what was written in place, up to there. */
  commit(end: number): void {
    this.#end = end;
    this.#schedule();
  }

  #schedule(): void {
    this.#quiet = 0;
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(this.#flushScheduled);
  }

  /** Makes room for so many bytes that are about to be appended. */
  reserve(size: number): void {
    if (size > this.#slab.byteLength - this.#end) this.#renew(size);
  }

  /** Has something run before the next bytes leave, which may append what goes with them. */
  beforeFlush(task: () => void): void {
    this.#beforeFlush.add(task);
    this.#schedule();
  }

  /** Runs what waits for that, so that what is appended next comes after it. */
  settle(): void {
    for (const task of this.#beforeFlush) {
      this.#beforeFlush.delete(task);
      task();
    }
  }

  /** Hands on what there is, now. */
  flush(): void {
    this.settle();
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
    // Twice as much where it grows, so that it does not grow with every append.
    const slab = new Uint8Array(Math.max(SLAB_SIZE, pending === 0 ? needed : 2 * (pending + needed)));
    slab.set(this.#slab.subarray(this.#start, this.#end));
    this.#slab = slab;
    this.#start = 0;
    this.#end = pending;
  }
}
