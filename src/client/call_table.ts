/**
 * Calls by their correlation ids, which are random.
 *
 * Not a `Map`: the table that a Map has outgrown holds what was in it until the next full garbage collection, and with
 * thousands of calls a second that is most of them. Here an entry that is taken out leaves nothing behind.
 *
 * @module
 */

/** What a {@linkcode CallTable} holds. The table alone sets `next`. */
export interface Entry<Self> {
  readonly id: string;
  /** The next one in the same place. */
  next: Self | undefined;
}

const SMALLEST = 64;

/** A hash table with chains. */
export class CallTable<Item extends Entry<Item>> {
  #places = new Array<Item | undefined>(SMALLEST).fill(undefined);
  #size = 0;

  /** How many entries there are. */
  get size(): number {
    return this.#size;
  }

  /** Adds an entry, whose id is not there yet. */
  add(entry: Item): void {
    if (this.#size === this.#places.length) this.#resize(2 * this.#size);
    this.#put(entry);
    this.#size++;
  }

  /** The entry with this id. */
  get(id: string): Item | undefined {
    let entry = this.#places[this.#placeOf(id)];
    while (entry !== undefined && entry.id !== id) entry = entry.next;
    return entry;
  }

  /** Takes the entry with this id out. */
  take(id: string): Item | undefined {
    const place = this.#placeOf(id);
    let before: Item | undefined;
    let entry = this.#places[place];
    while (entry !== undefined && entry.id !== id) {
      before = entry;
      entry = entry.next;
    }
    if (entry === undefined) return undefined;
    if (before === undefined) this.#places[place] = entry.next;
    else before.next = entry.next;
    entry.next = undefined;
    this.#size--;
    // After a crowd has left.
    if (this.#size === 0 && this.#places.length > 16 * SMALLEST) this.#resize(SMALLEST);
    return entry;
  }

  /** All entries, as they are now. */
  entries(): Item[] {
    const all: Item[] = [];
    for (let entry of this.#places) {
      for (; entry !== undefined; entry = entry.next) all.push(entry);
    }
    return all;
  }

  #put(entry: Item): void {
    const place = this.#placeOf(entry.id);
    entry.next = this.#places[place];
    this.#places[place] = entry;
  }

  #resize(places: number): void {
    const entries = this.entries();
    this.#places = new Array<Item | undefined>(places).fill(undefined);
    for (const entry of entries) this.#put(entry);
  }

  /** By the first characters, which are random where the id is one of ours. */
  #placeOf(id: string): number {
    let hash = 0;
    for (let index = 0; index < 8; index++) hash = Math.imul(hash, 31) + id.charCodeAt(index) | 0;
    return hash & this.#places.length - 1;
  }
}
