/**
 * The service of ours that Python calls in the interoperability tests.
 *
 * @module
 */
import {
  type Context,
  NuropbAuthenticationError,
  NuropbAuthorizationError,
  NuropbCallAgain,
  NuropbDeprecatedError,
  NuropbException,
  NuropbHandlingError,
  NuropbValidationError,
  type StandardSchema,
} from "@nuropb/mesh";
import { Inbox } from "./support.ts";

/** What a command brought. */
export interface Note {
  readonly params: unknown;
  readonly raw: unknown;
  readonly traceId: string | null;
}

class OrderLocked extends Error {
  override readonly name = "OrderLocked";
}

/** What `fail` throws, by its name. */
export const errors: Readonly<Record<string, () => unknown>> = {
  NuropbValidationError: () => new NuropbValidationError("invalid input"),
  NuropbAuthenticationError: () => new NuropbAuthenticationError("who are you"),
  NuropbAuthorizationError: () => new NuropbAuthorizationError("not allowed"),
  NuropbDeprecatedError: () => new NuropbDeprecatedError("old"),
  NuropbHandlingError: () => new NuropbHandlingError("cannot"),
  NuropbException: () => new NuropbException("plain"),
  RangeError: () => new RangeError("too far"),
  OrderLocked: () => new OrderLocked("o-1 is locked:\nby Ann ✓"),
};

/** Methods as different as can be. */
export class Orders {
  readonly notes = new Inbox<Note>();

  add({ a, b = 2 }: { a: number; b?: number }): number {
    return a + b;
  }

  async slow({ milliseconds = 10 }: { milliseconds?: number }): Promise<string> {
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    return "slept";
  }

  echo({ value }: { value: unknown }): unknown {
    return value;
  }

  types(): Record<string, unknown> {
    return {
      date: new Date(Date.UTC(2024, 0, 2, 3, 4, 5, 678)),
      missing: undefined,
      holes: [undefined, null],
      large: 2 ** 70,
      exact: 2 ** 60,
      minusZero: -0,
      unicode: "héllo ✓ 𝄞 \0 \u2028",
      nested: { list: [[1], [], {}] },
    };
  }

  nothing(): void {}

  fail({ name }: { name: string }): never {
    throw errors[name]!();
  }

  failWithText(): never {
    throw "only a text";
  }

  unsendable(): number {
    return NaN;
  }

  quantity({ qty }: { qty: number }): number {
    return qty;
  }

  againOnce(_params: unknown, { redelivered }: Context): string {
    if (!redelivered) throw new NuropbCallAgain("once more");
    return "second time";
  }

  againLoop(): never {
    throw new NuropbCallAgain("loop");
  }

  about(_params: unknown, { raw, traceId, correlationId, deadline }: Context): Record<string, unknown> {
    return { raw, traceId, correlationId, left: deadline - Date.now() };
  }

  note(params: unknown, { raw, traceId }: Context): string {
    this.notes.put({ params, raw, traceId });
    return "nobody hears this";
  }

  hidden(): string {
    return "never";
  }

  _private(): string {
    return "never";
  }
}

/** What `quantity` takes. */
export const quantitySchema: StandardSchema<{ qty: number }> = {
  "~standard": {
    version: 1,
    validate: (value) => {
      const { qty } = value as { qty?: unknown };
      return typeof qty === "number"
        ? { value: { qty } }
        : { issues: [{ message: "no number", path: ["qty"] }] };
    },
  },
};
