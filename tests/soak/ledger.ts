/**
 * What became of every message: the lines of all processes, put together.
 *
 * @module
 */
import type { Kind } from "./worker.ts";

/** What is known of one message, as bits. */
const CONFIRMED = 1;
const ANSWERED = 2;
const WRONG = 4;
const FAILED = 8;
const HUNG = 16;
const DEAD = 32;
const EMITS = 64;

/**
 * How long before the broker is killed a message may have been refused whose letter is lost with it, in ms. RabbitMQ
 * passes dead letters on without confirms, and writes down what is not to be confirmed only when its queue comes to
 * rest, so that a letter which no one has read by then is gone. With faults under way one is read within this time.
 */
const LETTER_READ_MS = 5_000;

/** The messages of one sender and kind, by number: a byte for each thing, as there may be millions. */
class Track {
  sent = 0;
  marks = new Uint8Array(1_024);
  handled = new Uint8Array(1_024);
  emissions = new Uint8Array(1_024);

  reserve(number: number): void {
    if (number < this.marks.length) return;
    const grown = (old: Uint8Array<ArrayBuffer>) => {
      const larger = new Uint8Array(Math.max(number + 1, old.length * 2));
      larger.set(old);
      return larger;
    };
    this.marks = grown(this.marks);
    this.handled = grown(this.handled);
    this.emissions = grown(this.emissions);
  }
}

/** What became of the messages of one kind. */
export interface Row {
  readonly kind: string;
  sent: number;
  confirmed: number;
  answered: number;
  handledOnce: number;
  handledAgain: number;
  failed: number;
  deadLettered: number;
  lost: number;
  hung: number;
}

/** The kinds of messages, and what the table calls them. */
const TITLES: Record<Kind, string> = {
  r: "request",
  i: "idempotent request",
  c: "command",
  e: "event to service",
};

/** Counts. */
export class Ledger {
  readonly #tracks = new Map<string, Track>();
  /** What each subscriber got, by sender. */
  readonly #received = new Map<string, Map<string, Track>>();
  /** From which event on each sender sent without a fault under way. */
  readonly #quiet = new Map<string, number>();
  /** When each command and event was last refused that is no dead letter, in ms since the epoch. */
  readonly #refused = new Map<string, number>();
  /** When the broker was killed, in ms since the epoch. */
  readonly #kills: number[] = [];
  /** How many calls failed, by kind and code. */
  readonly failures = new Map<string, number>();
  /** How many messages are dead letters, by their type and reason. */
  readonly letters = new Map<string, number>();
  /** What else went wrong, in words. */
  readonly problems: string[] = [];
  /** Idempotent requests that a process ran once more, after or beside the first time. */
  readonly twins = { done: 0, running: 0 };
  /** So far. */
  readonly totals = { sent: 0, settled: 0, answered: 0, confirmed: 0, failed: 0, hung: 0, calledAgain: 0 };

  /** The broker has just been killed. */
  brokerKilled(): void {
    this.#kills.push(Date.now());
  }

  /** Takes a line of a process. */
  read(worker: string, line: string): void {
    const [letter = "", id = "", ...details] = line.split(" ");
    const [sender = "", kind = "", digits = ""] = id.split(".");
    const number = Number(digits);
    if (letter === "x") {
      this.problems.push(`${worker}: ${line.slice(2)}`);
      return;
    }
    if (letter === "k") {
      this.#quiet.set(sender, number);
      return;
    }
    if (letter === "v") {
      count(this.#receivedBy(worker, sender), "handled", number);
      return;
    }
    if (!(kind in TITLES) || !Number.isInteger(number)) {
      if (letter === "d") add(this.letters, details.join(" "));
      return;
    }
    this.#take(letter, this.#track(sender, kind), number, id, kind as Kind, details.join(" "));
  }

  #take(letter: string, track: Track, number: number, id: string, kind: Kind, detail: string): void {
    track.reserve(number);
    const mark = (bit: number) => track.marks[number]! |= bit;
    switch (letter) {
      case "s":
        track.sent++;
        this.totals.sent++;
        if (detail === "emit") mark(EMITS);
        return;
      case "c":
        mark(CONFIRMED);
        this.totals.confirmed++;
        return this.#settle();
      case "a":
        mark(ANSWERED);
        this.totals.answered++;
        return this.#settle();
      case "w":
        mark(WRONG);
        this.problems.push(`${id} was answered ${detail}`);
        return this.#settle();
      case "f":
        mark(FAILED);
        this.totals.failed++;
        add(this.failures, `${TITLES[kind]}: ${detail}`);
        return this.#settle();
      case "u":
        mark(HUNG);
        this.totals.hung++;
        this.problems.push(`${id} hung`);
        return this.#settle();
      case "h":
        return count(track, "handled", number);
      case "m":
        return count(track, "emissions", number);
      case "r":
        // What refuses a request is its answer; and the letter may be read before the line of its refusal.
        if ((kind === "c" || kind === "e") && !(track.marks[number]! & DEAD)) {
          this.#refused.set(id, Number(detail));
        }
        return;
      case "d":
        mark(DEAD);
        this.#refused.delete(id);
        return add(this.letters, detail);
      case "g":
        this.totals.calledAgain++;
        return;
      case "t":
        if (detail === "done") this.twins.done++;
        else this.twins.running++;
    }
  }

  /** How many calls have not settled. */
  get pending(): number {
    return this.totals.sent - this.totals.settled;
  }

  /** The table, from what is known now. */
  rows(): Row[] {
    const rows = (Object.keys(TITLES) as Kind[]).map((kind) => this.#rowOf(kind));
    return [...rows, this.#emitted(), this.#subscribed()];
  }

  /** Commands and events that were refused and are no dead letters, though the broker lived on. */
  get refusedWithoutLetter(): number {
    return this.#refused.size - this.lettersLostWithBroker;
  }

  /** Commands and events whose dead letters may be gone because the broker was killed before they were read. */
  get lettersLostWithBroker(): number {
    const mayBeLost = (refused: number) =>
      this.#kills.some((killed) => refused <= killed && refused >= killed - LETTER_READ_MS);
    return [...this.#refused.values()].filter(mayBeLost).length;
  }

  #rowOf(kind: Kind): Row {
    const row = emptyRow(TITLES[kind]);
    for (const [, { sent, marks, handled }] of this.#tracksOf(kind)) {
      for (let number = 0; number < sent; number++) {
        const bits = marks[number]!;
        const times = handled[number]!;
        row.sent++;
        if (bits & CONFIRMED) row.confirmed++;
        if (bits & ANSWERED) row.answered++;
        if (bits & FAILED) row.failed++;
        if (bits & HUNG) row.hung++;
        if (bits & DEAD) row.deadLettered++;
        if (times === 1) row.handledOnce++;
        if (times > 1) row.handledAgain++;
        if (bits & WRONG || (bits & CONFIRMED && times === 0 && !(bits & DEAD))) row.lost++;
      }
    }
    return row;
  }

  /** Events that methods emitted: promised once the method counts as done. */
  #emitted(): Row {
    const row = emptyRow("event from a method");
    for (const kind of Object.keys(TITLES) as Kind[]) {
      const isRequest = kind === "r" || kind === "i";
      for (const [, { sent, marks, handled, emissions }] of this.#tracksOf(kind)) {
        for (let number = 0; number < sent; number++) {
          const bits = marks[number]!;
          if (!(bits & EMITS) || handled[number] === 0) continue;
          const isDone = isRequest ? (bits & ANSWERED) !== 0 : (bits & DEAD) === 0;
          const times = emissions[number]!;
          row.sent++;
          if (isDone) row.confirmed++;
          if (times === 1) row.handledOnce++;
          if (times > 1) row.handledAgain++;
          if (isDone && times === 0) row.lost++;
        }
      }
    }
    return row;
  }

  /** What subscribers got; only what was published while no fault was under way is promised to them. */
  #subscribed(): Row {
    const row = emptyRow("event to subscribers");
    for (const senders of this.#received.values()) {
      for (const [sender, { sent, marks }] of this.#tracksOf("e")) {
        const received = senders.get(sender)?.handled ?? new Uint8Array();
        const quiet = this.#quiet.get(sender) ?? Infinity;
        for (let number = 0; number < sent; number++) {
          const isConfirmed = (marks[number]! & CONFIRMED) !== 0;
          const times = received[number] ?? 0;
          row.sent++;
          if (isConfirmed) row.confirmed++;
          if (times === 1) row.handledOnce++;
          if (times > 1) row.handledAgain++;
          if (isConfirmed && times === 0 && number >= quiet) row.lost++;
        }
      }
    }
    return row;
  }

  #settle(): void {
    this.totals.settled++;
  }

  #tracksOf(kind: Kind): [string, Track][] {
    return [...this.#tracks].filter(([key]) => key.endsWith(`.${kind}`))
      .map(([key, track]) => [key.slice(0, -2), track]);
  }

  #track(sender: string, kind: string): Track {
    return obtain(this.#tracks, `${sender}.${kind}`, () => new Track());
  }

  #receivedBy(worker: string, sender: string): Track {
    const senders = obtain(this.#received, worker, () => new Map<string, Track>());
    return obtain(senders, sender, () => new Track());
  }
}

function count(track: Track, what: "handled" | "emissions", number: number): void {
  track.reserve(number);
  const counts = track[what];
  // A byte is enough to tell once from more often.
  if (counts[number]! < 255) counts[number]!++;
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function obtain<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}

function emptyRow(kind: string): Row {
  return {
    kind,
    sent: 0,
    confirmed: 0,
    answered: 0,
    handledOnce: 0,
    handledAgain: 0,
    failed: 0,
    deadLettered: 0,
    lost: 0,
    hung: 0,
  };
}
