/**
 * How long to wait before something is tried again.
 *
 * @module
 */
import type { NuropbTransportError } from "../errors.ts";

const FIRST_DELAY = 100;
/** For a broker that is there and refuses, which trying again burdens. */
const LONGEST_DELAY = 30_000;
/** For one that cannot be reached, so that it is found soon after it is back. */
const LONGEST_UNREACHED_DELAY = 2_000;

/**
 * Exponential, between half and all of it at random, so that a crowd does not come back at once.
 *
 * @param attempt How many failed already. @param error Why the last one did.
 * @returns In ms.
 */
export function backOff(attempt: number, { code }: NuropbTransportError): number {
  const refuses = code !== "CONNECT_FAILED" && code !== "CONNECTION_LOST" && code !== "CHANNEL_CLOSED";
  const longest = refuses ? LONGEST_DELAY : LONGEST_UNREACHED_DELAY;
  const delay = Math.min(longest, FIRST_DELAY * 2 ** (attempt - 1));
  return Math.round(delay * (0.5 + Math.random() / 2));
}
