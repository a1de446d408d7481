/**
 * Pending calls: registered before they are sent, settled once, by an answer, a return, a deadline, an abort or a
 * lost connection.
 *
 * @module
 */
import { Deadlines, NOWHERE } from "../deadlines.ts";
import type { Expiring } from "../deadlines.ts";
import {
  NuropbException,
  NuropbNotDeliveredError,
  NuropbTimeoutError,
  NuropbTransportError,
} from "../errors.ts";
import type { Message } from "../message.ts";
import { CallTable } from "./call_table.ts";
import type { Entry } from "./call_table.ts";

/** The part of a connection that a call needs. */
export interface CallChannel {
  readonly replyTo: string;
  send(message: Message): void;
}

/** What a call is, besides its message. */
export interface PendingCall {
  readonly service: string;
  readonly method: string;
  /** How long it may take in all, in ms. */
  readonly ttl: number;
  /** How much of that is left, in ms. */
  readonly left: number;
  /** Whether it may be sent again when its answer is lost with the connection. */
  readonly idempotent: boolean;
  readonly signal?: AbortSignal | undefined;
}

interface Pending extends Entry<Pending>, Expiring {
  readonly call: PendingCall;
  readonly message: Message;
  /** Settles the call with an answer, if that can be read. */
  readonly take: (answer: Message) => void;
  readonly reject: (reason: unknown) => void;
  readonly abort: (() => void) | undefined;
}

/** Ties answers to requests. */
export class Correlator {
  readonly #pending = new CallTable<Pending>();
  /** Those that wait for a connection. */
  readonly #unsent = new Set<string>();
  readonly #maxUnsent: number;
  /** Why there are to be no more calls. */
  #closed: Error | undefined;
  readonly #deadlines = new Deadlines<Pending>((pending) => {
    this.#take(pending.id)?.reject(timeoutOf(pending.call));
  });

  /** @param maxUnsent How many calls may wait for a connection at once. */
  constructor(maxUnsent: number) {
    this.#maxUnsent = maxUnsent;
  }

  /** How many calls have no answer yet. */
  get size(): number {
    return this.#pending.size;
  }

  /**
   * Sends a request over the channel, or keeps it until there is one, and resolves with what `read` makes of its answer.
   *
   * @throws {NuropbTimeoutError} at the deadline. @throws {NuropbNotDeliveredError} when no service takes it.
   * @throws {NuropbTransportError} when the connection is lost, or too many calls wait for one.
   */
  call<Answer>(
    message: Message,
    call: PendingCall,
    channel: CallChannel | undefined,
    read: (answer: Message) => Answer | Promise<Answer>,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const { signal, left } = call;
      if (signal?.aborted) return reject(signal.reason);
      // It may have been sealed meanwhile.
      if (this.#closed) return reject(this.#closed);
      if (channel === undefined && this.#unsent.size >= this.#maxUnsent) {
        return reject(
          new NuropbTransportError(
            `${call.service}.${call.method} was not sent: ${this.#maxUnsent} calls wait for the connection already`,
            { code: "TOO_MANY_PENDING" },
          ),
        );
      }
      const id = message.properties.correlationId!;
      const deadline = performance.now() + left;
      const abort = signal && (() => this.#take(id)?.reject(signal.reason));
      if (abort) signal.addEventListener("abort", abort);
      const take = (answer: Message) => {
        try {
          resolve(read(answer));
        } catch (error) {
          reject(error);
        }
      };
      const pending = { id, next: undefined, place: NOWHERE, call, message, deadline, take, reject, abort };
      this.#pending.add(pending);
      this.#deadlines.add(pending);
      if (channel === undefined) this.#unsent.add(id);
      else this.#send(id, message, channel);
    });
  }

  /** An answer came. Gives whether anyone waited for it: a second one, or one too late, is nobody's. */
  answer(message: Message): boolean {
    const pending = this.#take(message.properties.correlationId);
    pending?.take(message);
    return pending !== undefined;
  }

  /** A request came back, since no queue takes it. */
  return(message: Message): void {
    const pending = this.#take(message.properties.correlationId);
    pending?.reject(notDelivered(pending.call.service, pending.call.method));
  }

  /** The broker did not take a request: it waits to be sent again. */
  refuse({ properties: { correlationId } }: Message): void {
    if (correlationId !== undefined && this.#pending.get(correlationId)) this.#unsent.add(correlationId);
  }

  /**
   * Every call that was sent has lost its answer: those that may be sent again wait for that, the others fail.
   *
   * @param taken Whether the broker may have taken them.
   */
  loseSent(error: NuropbException, taken: boolean): void {
    for (const { id, call: { service, method, idempotent } } of this.#pending.entries()) {
      if (this.#unsent.has(id)) continue;
      if (!taken || (idempotent && error.code === "CONNECTION_LOST")) {
        this.#unsent.add(id);
        continue;
      }
      this.#take(id)?.reject(
        error.code === "NOT_FOUND" ? notDelivered(service, method, error) : new NuropbTransportError(
          `${service}.${method} has no answer, and may have run: ${error.message}`,
          { code: error.code, cause: error },
        ),
      );
    }
  }

  /** Fails every call, and each that comes later. */
  failAll(error: Error): void {
    this.#closed = error;
    for (const { id } of this.#pending.entries()) this.#take(id)?.reject(error);
  }

  /** Sends the calls that waited for a connection. */
  sendWaiting(channel: CallChannel): void {
    for (const id of this.#unsent) {
      this.#unsent.delete(id);
      const pending = this.#pending.get(id);
      if (pending === undefined) continue;
      const { message, deadline } = pending;
      // Nobody waits for what a queue keeps longer than that.
      message.properties.expiration = String(Math.max(1, Math.ceil(deadline - performance.now())));
      this.#send(id, message, channel);
    }
  }

  #send(id: string, message: Message, channel: CallChannel): void {
    message.properties.replyTo = channel.replyTo;
    try {
      channel.send(message);
    } catch (error) {
      this.#take(id)?.reject(error);
    }
  }

  #take(id: string | undefined): Pending | undefined {
    if (id === undefined) return undefined;
    const pending = this.#pending.take(id);
    if (pending === undefined) return undefined;
    this.#deadlines.delete(pending);
    if (this.#unsent.size > 0) this.#unsent.delete(id);
    if (pending.abort) pending.call.signal?.removeEventListener("abort", pending.abort);
    return pending;
  }
}

/** The error for what is asked of a mesh that its owner closed. */
export function closedError(): NuropbTransportError {
  return new NuropbTransportError("The mesh was closed: connect anew", { code: "CLOSED" });
}

/** The error for a service that nobody hosts, in Python's words. */
export function notDelivered(service: string, method: string, cause?: unknown): NuropbNotDeliveredError {
  return new NuropbNotDeliveredError(
    `Service ${service} not available. unable to call method ${method}`,
    cause === undefined ? {} : { cause },
  );
}

function timeoutOf({ service, method, ttl }: PendingCall): NuropbTimeoutError {
  return new NuropbTimeoutError(
    `No answer from ${service}.${method} within ${ttl} ms: it may still be at work. Give it a longer ttl, or look ` +
      `at the service's log`,
  );
}
