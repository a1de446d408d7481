/**
 * Header tables as AMQP 0-9-1 writes them, of every type that RabbitMQ knows, with what the mesh makes of them.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import fc from "fast-check";

/** A field as its bytes, the type's letter before them. */
export interface Field {
  readonly bytes: Uint8Array;
  readonly value: unknown;
}

/** A table as its bytes, without the size before them. */
export interface Table {
  readonly bytes: Uint8Array;
  readonly value: Record<string, unknown>;
}

type Writer = (buffer: Buffer, value: never) => unknown;

/** The bytes of a number. */
function bytesOf(size: number, write: (buffer: Buffer) => unknown): Buffer {
  const buffer = Buffer.alloc(size);
  write(buffer);
  return buffer;
}

function field(letter: string, bytes: Uint8Array, value: unknown): Field {
  return { bytes: Buffer.concat([Buffer.from(letter), bytes]), value };
}

function sized(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytesOf(4, (buffer) => buffer.writeUInt32BE(bytes.byteLength)), bytes]);
}

const integers = (letter: string, size: number, min: number, max: number, write: Writer) =>
  fc.integer({ min, max }).map((value) =>
    field(letter, bytesOf(size, (buffer) => write(buffer, value as never)), value)
  );

const leaf: fc.Arbitrary<Field> = fc.oneof(
  fc.boolean().map((value) => field("t", Buffer.of(value ? 1 : 0), value)),
  integers("b", 1, -128, 127, (buffer, value) => buffer.writeInt8(value)),
  integers("B", 1, 0, 255, (buffer, value) => buffer.writeUInt8(value)),
  integers("s", 2, -32_768, 32_767, (buffer, value) => buffer.writeInt16BE(value)),
  integers("u", 2, 0, 65_535, (buffer, value) => buffer.writeUInt16BE(value)),
  integers("I", 4, -(2 ** 31), 2 ** 31 - 1, (buffer, value) => buffer.writeInt32BE(value)),
  integers("i", 4, 0, 2 ** 32 - 1, (buffer, value) => buffer.writeUInt32BE(value)),
  integers("l", 8, -(2 ** 53) + 1, 2 ** 53 - 1, (buffer, value) => buffer.writeBigInt64BE(BigInt(value))),
  fc.float().map((value) => field("f", bytesOf(4, (buffer) => buffer.writeFloatBE(value)), value)),
  fc.double().map((value) => field("d", bytesOf(8, (buffer) => buffer.writeDoubleBE(value)), value)),
  fc.string({ unit: "binary", maxLength: 30 }).map((value) => field("S", sized(Buffer.from(value)), value)),
  fc.uint8Array({ maxLength: 30 }).map((value) => field("x", sized(value), value)),
  fc.integer({ min: 0, max: 2 ** 32 }).map((seconds) =>
    field("T", bytesOf(8, (buffer) => buffer.writeBigInt64BE(BigInt(seconds))), new Date(seconds * 1_000))
  ),
  fc.constant(field("V", Buffer.alloc(0), null)),
);

const names = fc.oneof(
  fc.string({ minLength: 1, maxLength: 20 }),
  fc.constantFrom("x-death", "trace_id", "toString", "hasOwnProperty", "length", "é".repeat(127)),
).filter((name) => name !== "__proto__");

const entries = (values: fc.Arbitrary<Field>): fc.Arbitrary<Table> =>
  fc.uniqueArray(fc.tuple(names, values), { maxLength: 5, selector: ([name]) => name }).map((fields) => ({
    bytes: Buffer.concat(fields.flatMap(([name, { bytes }]) => [shortText(name), bytes])),
    value: Object.fromEntries(fields.map(([name, { value }]) => [name, value])),
  }));

function shortText(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.of(bytes.byteLength), bytes]);
}

const { any } = fc.letrec<{ any: Field }>((tie) => ({
  any: fc.oneof(
    { depthSize: "small", maxDepth: 6 },
    { weight: 3, arbitrary: leaf },
    entries(tie("any")).map(({ bytes, value }) => field("F", sized(bytes), value)),
    fc.array(tie("any"), { maxLength: 4 }).map((items) =>
      field("A", sized(Buffer.concat(items.map(({ bytes }) => bytes))), items.map(({ value }) => value))
    ),
  ),
}));

/** A table of a few fields of any type. */
export const tables: fc.Arbitrary<Table> = entries(any);
