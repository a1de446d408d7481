/**
 * Reads the lines that a process writes to a file, as they come.
 *
 * @module
 */
import { openSync, readSync } from "node:fs";

const CHUNK = 1 << 20;

/** One file that grows. */
export class JournalReader {
  readonly #file: number;
  readonly #online: (line: string) => void;
  readonly #buffer = new Uint8Array(CHUNK);
  readonly #decoder = new TextDecoder();
  #rest = "";

  /** @param path Of the file, which is made. @param online Gets each whole line. */
  constructor(path: string, online: (line: string) => void) {
    this.#file = openSync(path, "a+");
    this.#online = online;
  }

  /** Reads what was added. */
  read(): void {
    for (;;) {
      const count = readSync(this.#file, this.#buffer, 0, CHUNK, null);
      if (count === 0) return;
      const lines = (this.#rest + this.#decoder.decode(this.#buffer.subarray(0, count), { stream: true }))
        .split("\n");
      this.#rest = lines.pop() ?? "";
      for (const line of lines) this.#online(line);
    }
  }
}
