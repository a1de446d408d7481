/**
 * JSON as it crosses the mesh: strict in what is written, and reading what Python's `json` writes.
 *
 * @module
 */
import { NuropbMessageError, NuropbValidationError, toRemote } from "../errors.ts";
import { randomId } from "../ids.ts";
import { bytesOf } from "../message.ts";
import type { Body } from "../message.ts";
import { invalid } from "../options.ts";

/** How deep arrays and objects may be nested, both ways. */
export const MAX_DEPTH = 100;

/** How much of a path an error shows. */
const MAX_PATH = 80;

/** From how many bytes on a body is looked at before it is read. */
const LARGE = 65_536;
const [QUOTE, BACKSLASH, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [
  0x22,
  0x5c,
  0x5b,
  0x5d,
  0x7b,
  0x7d,
];

const decoder = new TextDecoder("utf-8", { fatal: true });

/**
 * Writes a value as JSON text.
 *
 * @param what What the value is, for the error: `params`, `event`…
 * @throws {NuropbValidationError} naming the path of the first part that JSON would drop, change or refuse.
 */
export function stringify(what: string, value: unknown): string {
  let fault: Fault | undefined;
  try {
    // One level down, since it will be a part of a message's body.
    fault = findFault(value, 1);
    if (fault === undefined) return JSON.stringify(value) ?? "null";
  } catch (error) {
    // A getter, a toJSON or a proxy that throws.
    throw new NuropbValidationError(
      `${what} must be something that JSON can carry, but reading it failed: ${toRemote(error).description}`,
      { code: "INVALID_ARGUMENT", cause: error },
    );
  }
  const path = fault.path.length > MAX_PATH ? `${fault.path.slice(0, MAX_PATH)}…` : fault.path;
  throw invalid(`${what}${path} must be something that JSON can carry`, fault.value);
}

/**
 * Writes an object as JSON text.
 *
 * @throws {NuropbValidationError} as `stringify` does, and for what JSON would make no object of, like a date.
 */
export function stringifyObject(what: string, value: object): string {
  const text = stringify(what, value);
  if (!text.startsWith("{")) throw invalid(`${what} must be an object in JSON`, text);
  return text;
}

/** Writes a text. Names and ids need no escapes, which is seen sooner than the runtime is asked. */
export function quote(text: string): string {
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code < 0x20 || code > 0x7e || code === QUOTE || code === BACKSLASH) return JSON.stringify(text);
  }
  return `"${text}"`;
}

/** Writes what was read before: integers that are BigInts go out as they came in. */
export function stringifyRead(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch {
    const mark = randomId();
    return JSON.stringify(value, (_key, item: unknown) => typeof item === "bigint" ? `${mark}${item}` : item)
      .replaceAll(new RegExp(`"${mark}(-?\\d+)"`, "g"), "$1");
  }
}

/** How integers past 2^53 are read: rounded to the nearest number, or as a BigInt. */
export type Integers = "number" | "bigint";

/**
 * Reads JSON. Python's bare `NaN`, `Infinity` and `-Infinity` become those numbers.
 *
 * @throws {NuropbMessageError} when it is no UTF-8, no JSON, or nested too deep.
 */
export function parse(body: Body, integers: Integers = "number"): unknown {
  if (body.length > LARGE && hasDeepBrackets(bytesOf(body))) throw tooDeep();
  const text = typeof body === "string" ? withoutMark(body) : decode(body);
  const value = parseText(text, integers);
  // A text shorter than two brackets per level cannot be too deep, which spares most messages the walk.
  if (text.length > 2 * MAX_DEPTH && isDeeper(value, MAX_DEPTH)) {
    throw tooDeep();
  }
  return value;
}

/** Without the byte order mark, which the decoder of bytes leaves out too. */
function withoutMark(text: string): string {
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new NuropbMessageError("The body is not UTF-8", { cause });
  }
}

function tooDeep(): NuropbMessageError {
  return new NuropbMessageError(`The body is nested deeper than ${MAX_DEPTH} levels`);
}

/** Whether JSON has more levels than allowed, told without reading it: of millions it would make as many objects. */
function hasDeepBrackets(bytes: Uint8Array): boolean {
  let depth = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) at = endOfText(bytes, at);
    else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      if (++depth > MAX_DEPTH) return true;
    } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) depth--;
  }
  return false;
}

/** Where a text ends: found by the runtime, as most of a large body is mostly text. */
function endOfText(bytes: Uint8Array, start: number): number {
  for (let end = start;;) {
    end = bytes.indexOf(QUOTE, end + 1);
    if (end === -1) return bytes.length;
    let first = end;
    while (bytes[first - 1] === BACKSLASH) first--;
    if ((end - first) % 2 === 0) return end;
  }
}

function parseText(text: string, integers: Integers): unknown {
  try {
    return integers === "bigint" && longNumber.test(text) ? parseSpecials(text, integers) : JSON.parse(text);
  } catch (cause) {
    try {
      if (text.includes("NaN") || text.includes("Infinity")) return parseSpecials(text, integers);
    } catch {
      // Not JSON for another reason.
    }
    throw new NuropbMessageError("The body is not JSON", { cause });
  }
}

const longNumber = /\d{16}/;
const bareWord = /^-?(?:NaN|Infinity)$/;
/** Outside strings, and not before a colon: such a key is no JSON, nor Python's. */
const wordOrNumber = /(?:-?\bInfinity\b|\bNaN\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?!\s*:)/g;

/** Parses what `JSON.parse` alone does not: such tokens are marked as strings, and read from there. */
function parseSpecials(text: string, integers: Integers): unknown {
  // Unguessable, so that no text of the message can pass for a mark.
  const mark = randomId();
  const isSpecial = (token: string) =>
    bareWord.test(token) ||
    (integers === "bigint" && /^-?[1-9]\d*$/.test(token) && !Number.isSafeInteger(Number(token)));
  const marked = replaceOutsideStrings(
    text,
    (part) => part.replace(wordOrNumber, (token) => isSpecial(token) ? `"${mark}${token}"` : token),
  );
  return JSON.parse(marked, (_key, value: unknown) => {
    if (typeof value !== "string" || !value.startsWith(mark)) return value;
    const token = value.slice(mark.length);
    return bareWord.test(token) ? Number(token) : BigInt(token);
  });
}

/** By hand, since an expression that skips strings would take for ever over some texts, and fail over long ones. */
function replaceOutsideStrings(text: string, replace: (part: string) => string): string {
  const parts: string[] = [];
  for (let position = 0;;) {
    const open = text.indexOf('"', position);
    if (open === -1) return parts.join("") + replace(text.slice(position));
    let close = open;
    do close = text.indexOf('"', close + 1); while (close !== -1 && isEscaped(text, close));
    if (close === -1) return parts.join("") + text.slice(position);
    parts.push(replace(text.slice(position, open)), text.slice(open, close + 1));
    position = close + 1;
  }
}

/** Whether an odd number of backslashes stands before a quotation mark. */
function isEscaped(text: string, position: number): boolean {
  let first = position;
  while (text[first - 1] === "\\") first--;
  return (position - first) % 2 === 1;
}

interface Fault {
  path: string;
  value: unknown;
}

/** The first part of a value that JSON would not carry as it is. */
function findFault(value: unknown, depth: number): Fault | undefined {
  switch (typeof value) {
    case "string":
    case "boolean":
    case "undefined":
      return undefined;
    case "number":
      return Number.isFinite(value) ? undefined : { path: "", value };
    case "object":
      if (value === null) return undefined;
      break;
    default:
      return { path: "", value };
  }
  if (depth >= MAX_DEPTH) return { path: "", value: `nested deeper than ${MAX_DEPTH} levels, or a cycle` };
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) {
      const fault = findFault(value[index], depth + 1);
      if (fault !== undefined) return { path: `[${index}]${fault.path}`, value: fault.value };
    }
    return undefined;
  }
  const { toJSON } = value as { toJSON?: unknown };
  if (typeof toJSON === "function") return findFault(toJSON.call(value, ""), depth + 1);
  if (
    value instanceof Map || value instanceof Set || ArrayBuffer.isView(value) || value instanceof ArrayBuffer
  ) {
    return { path: "", value: value.constructor.name };
  }
  for (const key of Object.keys(value)) {
    const fault = findFault((value as Record<string, unknown>)[key], depth + 1);
    if (fault !== undefined) return { path: `.${key}${fault.path}`, value: fault.value };
  }
  return undefined;
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (levels === 0) return true;
  if (Array.isArray(value)) return value.some((item) => isDeeper(item, levels - 1));
  for (const key in value) {
    if (isDeeper((value as Record<string, unknown>)[key], levels - 1)) return true;
  }
  return false;
}
