/**
 * From a delivery to its outcome: reads the message, runs the method or the handlers, answers, and settles.
 *
 * | outcome | request | command, event |
 * |---|---|---|
 * | returned | events, response, ack | events, ack |
 * | threw | error response, ack | reject to the dead letters |
 * | `NuropbCallAgain`, first delivery | requeue | requeue |
 * | `NuropbCallAgain`, redelivered | `NuropbCallAgainReject` response, ack | reject to the dead letters |
 * | cannot be read | error response, reject to the dead letters | reject to the dead letters |
 * | cannot be decrypted | error response, ack | reject to the dead letters |
 *
 * @module
 */
import type { Caller, CallerScope, MeshResponse } from "../calls.ts";
import {
  asError,
  NuropbCallAgain,
  NuropbHandlingError,
  NuropbMessageError,
  NuropbTransportError,
  NuropbValidationError,
} from "../errors.ts";
import { bytesOf } from "../message.ts";
import type { Message } from "../message.ts";
import type { Logger } from "../options.ts";
import type { Delivery } from "../transport/transport.ts";
import type { KeyedPayload, PayloadKey } from "../wire/encryption.ts";
import {
  asRefusal,
  decodeServiceMessage,
  DESCRIBE_METHOD,
  encodeResponse,
  isEncrypted,
} from "../wire/envelope.ts";
import type { Call, Event } from "../wire/envelope.ts";
import type { Integers } from "../wire/json.ts";
import type { ServiceKeys } from "../wire/service_keys.ts";
import { authenticate, checkScopes } from "./claims.ts";
import type { Authorize } from "./claims.ts";
import { MessageContext } from "./context.ts";
import type { ContextHost } from "./context.ts";
import type { Deduplicator } from "./dedupe.ts";
import type { HostedMembers, HostedMethod } from "./methods.ts";
import { causeOf, errorOf, refusalOf, replyAddress, seal, textOf } from "./reply.ts";
import { validateParams } from "./validate.ts";

/** A plain message to a method that takes encrypted ones alone. */
class EncryptionWanted extends NuropbMessageError {}

/** The method succeeded, and what it emitted did not get out. */
class UnconfirmedEvents extends NuropbTransportError {}

/** What a dispatcher needs of its service. */
export interface DispatcherOptions {
  readonly service: string;
  readonly members: HostedMembers;
  /** The answer to `nuropb_describe`. */
  readonly description: Record<string, unknown>;
  /** Opens encrypted messages; absent when the service takes none. */
  readonly keys: ServiceKeys | undefined;
  /** Knows what was handled before; absent when that is handled again. */
  readonly deduplicator: Deduplicator | undefined;
  /** How integers past 2^53 are read. */
  readonly integers: Integers;
  /** Says who calls a method that has no `authorize` of its own. */
  readonly authorize: Authorize | undefined;
  /** Where in a message's context the bearer token is. */
  readonly contextTokenKey: string;
  readonly logger: Logger;
  /** Makes the caller for a context's `mesh`. */
  callerFor(scope: CallerScope): Caller;
  /** Encodes an event that a method emits. */
  encodeEvent(topic: string, event: unknown, traceId: string | null): Message;
  /** Publishes it. */
  publish(message: Message): Promise<void>;
}

/** Handles a service's messages. */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #shutdown = new AbortController();
  readonly #host: ContextHost;
  #running = 0;
  #idle: (() => void) | undefined;

  /** @param options What the service offers. */
  constructor(options: DispatcherOptions) {
    this.#options = options;
    const { callerFor, encodeEvent: encode } = options;
    this.#host = { shutdown: this.#shutdown.signal, callerFor, encode };
  }

  /** How many messages are being handled. */
  get running(): number {
    return this.#running;
  }

  /** Handles one delivery, unless it was handled before, and settles it exactly once. Never throws. */
  readonly handle = async (delivery: Delivery): Promise<void> => {
    this.#running++;
    const { deduplicator } = this.#options;
    try {
      if (deduplicator === undefined) await this.#dispatch(delivery);
      else await deduplicator.once(delivery, this.#dispatch);
    } catch (error) {
      // Nothing known leads here; the message is kept for whoever looks.
      this.#options.logger.error("a message could not be handled", {
        ...this.#fieldsOf(delivery),
        reason: textOf(error),
      });
      delivery.reject();
    } finally {
      this.#running--;
      if (this.#running === 0) this.#idle?.();
    }
  };

  /** Resolves when nothing is being handled. */
  idle(): Promise<void> {
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle = resolve);
  }

  /** Aborts the signal of every context. */
  abort(reason: Error): void {
    this.#shutdown.abort(reason);
  }

  /** Without a promise of its own, as a message makes some already. */
  readonly #dispatch = (delivery: Delivery): Promise<void> | void => {
    if (isSealed(delivery)) return this.#dispatchSealed(delivery);
    return this.#run(delivery, undefined);
  };

  async #dispatchSealed(delivery: Delivery): Promise<void> {
    let opened: KeyedPayload;
    try {
      opened = await this.#open(delivery);
    } catch (error) {
      return this.#refuse(delivery, error);
    }
    return await this.#run(delivery, opened);
  }

  #run(delivery: Delivery, opened: KeyedPayload | undefined): Promise<void> | void {
    let message: Call | Event;
    try {
      message = decodeServiceMessage(delivery, opened?.body, this.#options.integers);
    } catch (error) {
      return this.#refuse(delivery, error);
    }
    const context = new MessageContext(this.#host, message, delivery.redelivered);
    if (message.type === "request") return this.#answer(message, context, delivery, opened?.key);
    return this.#carryOut(message, context, delivery, opened?.key);
  }

  #open(delivery: Delivery): Promise<KeyedPayload> {
    const { keys } = this.#options;
    if (keys === undefined) throw new NuropbMessageError("The service takes no encrypted messages");
    return keys.decrypt(bytesOf(delivery.body));
  }

  /**
   * A message that cannot be read: to the dead letters with it. Whoever waits for an answer, perhaps without a
   * deadline, is told; and since a new public key may be all that an encrypted request needs, that one is done with.
   */
  #refuse(delivery: Delivery, error: unknown): void {
    const { correlationId, replyTo, headers } = delivery.properties;
    const address = headers["nuropb_type"] === "request" ? replyAddress(replyTo) : undefined;
    const answered = address !== undefined && correlationId !== undefined;
    if (answered) delivery.reply(refusalOf(correlationId, address, headers, error));
    const isDone = answered && isEncrypted(delivery);
    this.#options.logger.warn(
      `a message that cannot be read ${isDone ? "is refused" : "goes to the dead letters"}`,
      {
        ...this.#fieldsOf(delivery),
        reason: textOf(error),
      },
    );
    if (isDone) delivery.ack();
    else delivery.reject();
  }

  async #answer(
    request: Call,
    context: MessageContext,
    delivery: Delivery,
    key: PayloadKey | undefined,
  ): Promise<void> {
    const replyTo = replyAddress(request.replyTo);
    if (replyTo === undefined) {
      this.#options.logger.warn(
        "a request without a reply_to that may be answered goes to the dead letters",
        {
          ...this.#fieldsOf(delivery),
        },
      );
      return delivery.reject();
    }
    try {
      const result = await this.#call(request, context, key !== undefined);
      const plain = this.#encode(request, replyTo, result);
      const response = key === undefined ? plain : await seal(plain, key);
      if (context.emitted !== undefined) await this.#publishEmitted(context.emitted);
      delivery.reply(response);
    } catch (thrown) {
      const error = asError(thrown);
      // Done but not told: as long as another delivery may tell, the request is not finished.
      const mayRunAgain = error instanceof NuropbCallAgain || error instanceof UnconfirmedEvents;
      if (mayRunAgain && !delivery.redelivered) return delivery.requeue();
      this.#logFailure(delivery, error);
      await this.#replyError(request, error, replyTo, delivery, key);
      if (error instanceof UnconfirmedEvents) return delivery.reject();
    } finally {
      context.end();
    }
    delivery.ack();
  }

  async #replyError(
    request: Call,
    thrown: Error,
    replyTo: string,
    delivery: Delivery,
    key: PayloadKey | undefined,
  ): Promise<void> {
    const response = this.#responseTo(request, null, errorOf(request, thrown));
    const encode = (answer: MeshResponse) => {
      const plain = encodeResponse(answer, replyTo, request.readsBare);
      return key === undefined ? plain : seal(plain, key);
    };
    try {
      const message = await encode(response);
      delivery.reply(thrown instanceof EncryptionWanted ? asRefusal(message) : message);
    } catch (error) {
      if (!(error instanceof NuropbMessageError)) throw error;
      // The echoed context was what made it too large.
      delivery.reply(await encode({ ...response, context: {} }));
    }
  }

  async #carryOut(
    message: Call | Event,
    context: MessageContext,
    delivery: Delivery,
    key: PayloadKey | undefined,
  ): Promise<void> {
    try {
      if (message.type === "event") await this.#notify(message, context);
      else await this.#call(message, context, key !== undefined);
      if (context.emitted !== undefined) await this.#publishEmitted(context.emitted);
    } catch (thrown) {
      const error = asError(thrown);
      const mayRunAgain = error instanceof NuropbCallAgain || error instanceof UnconfirmedEvents;
      if (mayRunAgain && !delivery.redelivered) return delivery.requeue();
      this.#options.logger.error(`a ${message.type} failed and goes to the dead letters`, {
        ...this.#fieldsOf(delivery),
        reason: textOf(error),
        ...causeOf(error),
      });
      return delivery.reject();
    } finally {
      context.end();
    }
    delivery.ack();
  }

  /** What the method returns, which may be a promise; one itself only where there is something to wait for before. */
  #call(call: Call, context: MessageContext, encrypted: boolean): unknown {
    const { service, members, description, authorize } = this.#options;
    if (call.method === DESCRIBE_METHOD) return description;
    const method = members.methods.get(call.method);
    if (method === undefined) {
      throw new NuropbHandlingError(`Unknown method ${call.method}`, { code: "UNKNOWN_METHOD" });
    }
    const target = `${service}.${method.name}`;
    const { options } = method;
    if (options.encrypted === true && !encrypted) {
      throw new EncryptionWanted(
        `${target} takes encrypted messages alone: encrypt it to the service's public key`,
      );
    }
    const guard = (options.authorize ?? authorize) || undefined;
    if (guard === undefined && options.params === undefined) return method.call(call.params, context);
    return this.#callGuarded(target, method, guard, call.params, context);
  }

  async #callGuarded(
    target: string,
    { options, call }: HostedMethod,
    guard: Authorize | undefined,
    given: unknown,
    context: MessageContext,
  ): Promise<unknown> {
    if (guard !== undefined) {
      context.claims = await authenticate(guard, this.#options.contextTokenKey, context);
      if (options.scopes !== undefined) checkScopes(target, options.scopes, context.claims);
    }
    const params = options.params === undefined ? given : await validateParams(target, options.params, given);
    return await call(params, context);
  }

  /** Runs every handler whose pattern the topic matches; all must succeed. */
  async #notify(event: Event, context: MessageContext): Promise<void> {
    const handlers = this.#options.members.events.filter((handler) => handler.matches(event.topic));
    if (handlers.length === 0) {
      throw new NuropbHandlingError(`No handler takes the topic ${event.topic}: is a binding left over?`);
    }
    for (const handler of handlers) await handler.call(event.event, context);
  }

  async #publishEmitted(emitted: readonly Message[]): Promise<void> {
    // All of them are waited for, so that none is under way any more when the method runs again.
    const outcomes = await Promise.allSettled(
      emitted.map((message) => this.#options.publish(message)),
    );
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed !== undefined) {
      const cause: unknown = failed.reason;
      throw new UnconfirmedEvents(`The events of the method could not be published: ${textOf(cause)}`, {
        cause,
      });
    }
  }

  #encode(request: Call, replyTo: string, result: unknown): ReturnType<typeof encodeResponse> {
    try {
      return encodeResponse(this.#responseTo(request, result ?? null, null), replyTo, request.readsBare);
    } catch (cause) {
      const reason = cause instanceof NuropbValidationError ? cause.description : textOf(cause);
      throw new NuropbHandlingError(
        `The result of ${request.service}.${request.method} cannot be sent: ${reason}`,
        {
          cause,
        },
      );
    }
  }

  /** The caller is told; only what it does not get to see is worth more than a line for whoever looks for a fault. */
  #logFailure(delivery: Delivery, thrown: unknown): void {
    const fields = { ...this.#fieldsOf(delivery), reason: textOf(thrown), ...causeOf(thrown) };
    this.#options.logger["cause" in fields ? "warn" : "debug"]("a request ended in an error", fields);
  }

  #responseTo(
    { correlationId, traceId, context, method }: Call,
    result: unknown,
    error: MeshResponse["error"],
  ): MeshResponse {
    const deprecated = this.#options.members.methods.get(method)?.options.deprecated;
    return { result, error, correlationId, traceId, context, warning: deprecated ?? null };
  }

  #fieldsOf({ routingKey, properties, redelivered }: Delivery): Record<string, unknown> {
    return {
      service: this.#options.service,
      routingKey,
      correlationId: properties.correlationId,
      redelivered,
    };
  }
}

/** Whether a message is to be decrypted. Python marks events too, and sends them plain. */
function isSealed(delivery: Delivery): boolean {
  return isEncrypted(delivery) && delivery.properties.headers["nuropb_type"] !== "event";
}
