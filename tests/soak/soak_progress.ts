/**
 * Prints lines, and below them, on a terminal, where the soak stands.
 *
 * @module
 */
import type { Ledger } from "./ledger.ts";

const CLEAR = "\r\x1b[K";
const encoder = new TextEncoder();

/** The last line on a terminal; elsewhere only the lines that are printed. */
export class SoakProgress implements Disposable {
  /** What is going on. */
  text = "";
  readonly #live = Deno.stdout.isTerminal();
  readonly #started = Date.now();
  readonly #timer = setInterval(() => this.#draw(), 1_000);
  #ledger: Ledger | undefined;

  /** Whose counts to show. */
  follow(ledger: Ledger): void {
    this.#ledger = ledger;
  }

  /** Prints a line under the time. */
  print(line: string): void {
    this.#write(`${this.#live ? CLEAR : ""}${this.#seconds().padStart(6)}  ${line}\n`);
    this.#draw();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    if (this.#live) this.#write(CLEAR);
  }

  #draw(): void {
    if (!this.#live) return;
    const { sent, answered, confirmed, failed, hung } = this.#ledger?.totals ??
      { sent: 0, answered: 0, confirmed: 0, failed: 0, hung: 0 };
    const counts = `sent ${sent}, answered ${answered}, confirmed ${confirmed}, failed ${failed}, ` +
      `pending ${this.#ledger?.pending ?? 0}, hung ${hung}`;
    const line = `${this.#seconds()}  ${counts}  ${this.text}`;
    this.#write(`${CLEAR}${line.slice(0, Deno.consoleSize().columns - 1)}`);
  }

  #seconds(): string {
    return `${Math.floor((Date.now() - this.#started) / 1_000)} s`;
  }

  #write(text: string): void {
    Deno.stdout.writeSync(encoder.encode(text));
  }
}
