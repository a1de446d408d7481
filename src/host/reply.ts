/**
 * What goes back to a caller, and where to.
 *
 * @module
 */
import { NuropbCallAgain, NuropbCallAgainReject, NuropbException, toRemote } from "../errors.ts";
import { bytesOf } from "../message.ts";
import type { Message } from "../message.ts";
import { isDirectReplyTo } from "../transport/topology.ts";
import type { PayloadKey } from "../wire/encryption.ts";
import { asRefusal, encodeResponse, withEncryptedBody } from "../wire/envelope.ts";
import type { Call } from "../wire/envelope.ts";

/** How much of an error's name and text goes to the caller, so that its answer does not fail for being too large. */
const MAX_NAME = 256;
const MAX_DESCRIPTION = 8_192;

/** Where an answer may go: to a caller's own queue, and nowhere else that a request might name. */
export function replyAddress(replyTo: string | undefined): string | undefined {
  if (replyTo === undefined) return undefined;
  return isDirectReplyTo(replyTo) || (replyTo.startsWith("nuropb-") && replyTo.endsWith("-rq"))
    ? replyTo
    : undefined;
}

/** An answer to an encrypted request is encrypted too. */
export async function seal(response: Message, key: PayloadKey): Promise<Message> {
  return withEncryptedBody(response, await key.encrypt(bytesOf(response.body)));
}

/** What a method threw, as it goes over the wire. */
export function errorOf({ service, method }: Call, thrown: unknown): { error: string; description: string } {
  const error = thrown instanceof NuropbCallAgain
    ? new NuropbCallAgainReject(`${service}.${method} asked twice to be called again`)
    : thrown;
  const { name, description } = toRemote(error);
  return { error: name.slice(0, MAX_NAME), description: description.slice(0, MAX_DESCRIPTION) };
}

/** The answer to a request that cannot be read, from what its properties tell. */
export function refusalOf(
  correlationId: string,
  replyTo: string,
  headers: Readonly<Record<string, unknown>>,
  error: unknown,
): Message {
  const { trace_id: traceId } = headers;
  const { name, description } = toRemote(error);
  return asRefusal(encodeResponse({
    result: null,
    error: { error: name, description },
    correlationId,
    traceId: typeof traceId === "string" ? traceId : null,
    context: {},
    warning: null,
  }, replyTo));
}

/** What was thrown, as a line for the log. */
export function textOf(thrown: unknown): string {
  const { name, description } = toRemote(thrown);
  return `${name}: ${description}`;
}

/** What lies behind an error, for the service's own log: a caller never gets to see it. */
export function causeOf(thrown: unknown): { cause?: string } {
  return thrown instanceof NuropbException && thrown.cause !== undefined
    ? { cause: textOf(thrown.cause) }
    : {};
}
