/**
 * What waits for the broker's confirm, by the tags of a channel, which are consecutive and mostly settled in order.
 *
 * Not a `Map`: the table that a Map has outgrown holds what was in it until the next full garbage collection.
 *
 * @module
 */

/** A message without its confirm. */
export interface Confirm {
  readonly messageId: string | undefined;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  /** Set when the broker sent the message back, which it does before it confirms it. */
  returned: boolean;
}

/** How many places of what is settled may stand before the first one that is not. */
const MAX_GAP = 1_024;

/** The messages of one channel. */
export class Confirms {
  readonly #items: (Confirm | undefined)[] = [];
  /** The tag of the first place. */
  #firstTag = 1;
  /** The first place that is not settled. */
  #start = 0;
  #size = 0;

  /** How many there are. */
  get size(): number {
    return this.#size;
  }

  /** Adds one under the next tag. */
  add(confirm: Confirm): void {
    this.#items.push(confirm);
    this.#size++;
  }

  /** Takes out the one of this tag. */
  take(tag: number): Confirm | undefined {
    const place = tag - this.#firstTag;
    const confirm = this.#items[place];
    if (confirm === undefined) return undefined;
    this.#items[place] = undefined;
    this.#size--;
    if (place === this.#start) this.#advance();
    return confirm;
  }

  /** Takes out all up to this tag. */
  takeUpTo(tag: number): Confirm[] {
    const taken: Confirm[] = [];
    for (let each = this.#firstTag + this.#start; each <= tag && this.#size > 0; each++) {
      const confirm = this.take(each);
      if (confirm !== undefined) taken.push(confirm);
    }
    return taken;
  }

  /** Takes out all. */
  takeAll(): Confirm[] {
    return this.takeUpTo(Infinity);
  }

  /** The first one of this message id that has not come back. */
  unreturned(messageId: string): Confirm | undefined {
    return this.#items.find((confirm) => confirm?.messageId === messageId && !confirm.returned);
  }

  #advance(): void {
    const items = this.#items;
    while (this.#start < items.length && items[this.#start] === undefined) this.#start++;
    if (this.#start < items.length && this.#start < MAX_GAP) return;
    items.splice(0, this.#start);
    this.#firstTag += this.#start;
    this.#start = 0;
  }
}
