/**
 * Prints lines, and below them, on a terminal, what is going on.
 *
 * @module
 */

const CLEAR = "\r\x1b[K";
const encoder = new TextEncoder();

/** The last line on a terminal; elsewhere only the lines that are printed. */
export class Progress implements Disposable {
  readonly #live = Deno.stdout.isTerminal();
  readonly #started = Date.now();
  readonly #running = new Set<string>();
  readonly #timer = setInterval(() => this.#draw(), 1_000);

  /** Prints a line. */
  readonly print = (line: string): void => {
    this.#write(`${this.#live ? CLEAR : ""}${line}\n`);
    this.#draw();
  };

  /** Shows the text for as long as the work runs. */
  async during<T>(text: string, work: Promise<T>): Promise<T> {
    this.#running.add(text);
    this.#draw();
    try {
      return await work;
    } finally {
      this.#running.delete(text);
      this.#draw();
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    if (this.#live) this.#write(CLEAR);
  }

  #draw(): void {
    if (!this.#live) return;
    const seconds = Math.floor((Date.now() - this.#started) / 1_000);
    const text = `${seconds} s  ${[...this.#running].join(", ")}`;
    this.#write(`${CLEAR}${text.slice(0, Deno.consoleSize().columns - 1)}`);
  }

  #write(text: string): void {
    Deno.stdout.writeSync(encoder.encode(text));
  }
}
