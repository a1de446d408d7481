/**
 * Messages in the embedded broker: copies, so that nobody sees another's changes, and their way to the dead letters.
 *
 * @module
 */
import type { Message, MessageProperties } from "../message.ts";
import type { DeathReason } from "./memory_queue.ts";

/** A message that shares nothing with another: what a sender or receiver does to its own stays unseen. */
export function copyMessage({ exchange, routingKey, properties, body }: Message): Message {
  return { exchange, routingKey, properties: copyProperties(properties), body: body.slice() };
}

/** The properties with a header table of their own. */
export function copyProperties(properties: MessageProperties): MessageProperties {
  return { ...properties, headers: copyTable(properties.headers) };
}

function copyTable(table: object): Record<string, unknown> {
  // Most headers are text, and a spread is many times faster than copying one after the other.
  const copy: Record<string, unknown> = { ...table };
  for (const field in copy) {
    const value = copy[field];
    if (typeof value === "object" && value !== null) copy[field] = copyObject(value);
  }
  return copy;
}

function copyObject(value: object): unknown {
  if (value instanceof Uint8Array) return value.slice();
  if (value instanceof Date) return new Date(value);
  if (!Array.isArray(value)) return copyTable(value);
  return value.map((item) => typeof item === "object" && item !== null ? copyObject(item) : item);
}

/**
 * A message as it goes to the dead letters. Its history is told as RabbitMQ tells it: one entry in `x-death` for each
 * queue and reason, the latest first. It loses its expiration, so that it does not expire there too.
 */
export function deadLetter(
  { exchange, routingKey, properties: { expiration, ...properties }, body }: Message,
  queue: string,
  reason: DeathReason,
  to: { readonly exchange: string; readonly routingKey: string },
): Message {
  const history: unknown = properties.headers["x-death"];
  const deaths: Record<string, unknown>[] = Array.isArray(history) ? history : [];
  const before = deaths.find((death) => death["queue"] === queue && death["reason"] === reason);
  const death = before !== undefined ? { ...before, count: Number(before["count"]) + 1 } : {
    count: 1,
    reason,
    queue,
    time: new Date(),
    exchange,
    "routing-keys": [routingKey],
    ...(expiration === undefined ? {} : { "original-expiration": expiration }),
  };
  const headers = {
    "x-first-death-queue": queue,
    "x-first-death-reason": reason,
    "x-first-death-exchange": exchange,
    ...properties.headers,
    "x-death": [death, ...deaths.filter((other) => other !== before)],
  };
  return { ...to, properties: { ...properties, headers }, body };
}
