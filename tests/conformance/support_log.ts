/**
 * A logger that keeps what it is told, to be searched.
 *
 * @module
 */
import { inspect } from "node:util";
import type { Logger } from "@nuropb/mesh";

/** One line of a log. */
export interface LogLine {
  readonly level: keyof Logger;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Everything that was logged. */
export class Log implements Logger {
  readonly lines: LogLine[] = [];

  readonly debug = this.#level("debug");
  readonly info = this.#level("info");
  readonly warn = this.#level("warn");
  readonly error = this.#level("error");

  /** The lines of a level. */
  of(level: keyof Logger): LogLine[] {
    return this.lines.filter((line) => line.level === level);
  }

  /** All of it as one text, with whatever a logger could find in the fields. */
  text(): string {
    return this.lines
      .map((line) => `${JSON.stringify(line)} ${inspect(line, { depth: 9, showHidden: true })}`)
      .join("\n");
  }

  #level(level: keyof Logger) {
    return (message: string, fields: Record<string, unknown> = {}): void => {
      this.lines.push({ level, message, fields });
    };
  }
}
