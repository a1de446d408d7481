/**
 * Pending calls: registered before they are sent, settled once, by an answer, a return, a deadline, an abort or a
 * lost connection.
 *
 * @module
 */
import {
  NuropbException,
  NuropbNotDeliveredError,
  NuropbTimeoutError,
  NuropbTransportError,
} from "../errors.ts";
import type { Message } from "../message.ts";

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
  readonly signal?: AbortSignal | undefined;
}

interface Pending extends PendingCall {
  readonly message: Message;
  readonly resolve: (answer: Message) => void;
  readonly reject: (reason: unknown) => void;
  readonly timer: ReturnType<typeof setTimeout>;
  readonly abort: (() => void) | undefined;
}

/** Ties answers to requests. */
export class Correlator {
  readonly #pending = new Map<string, Pending>();
  /** Those that wait for a connection. */
  readonly #unsent = new Set<string>();
  readonly #maxUnsent: number;

  /** @param maxUnsent How many calls may wait for a connection at once. */
  constructor(maxUnsent: number) {
    this.#maxUnsent = maxUnsent;
  }

  /** How many calls have no answer yet. */
  get size(): number {
    return this.#pending.size;
  }

  /**
   * Sends a request over the channel, or keeps it until there is one, and resolves with its answer.
   *
   * @throws {NuropbTimeoutError} at the deadline. @throws {NuropbNotDeliveredError} when no service takes it.
   * @throws {NuropbTransportError} when the connection is lost, or too many calls wait for one.
   */
  call(message: Message, call: PendingCall, channel: CallChannel | undefined): Promise<Message> {
    return new Promise((resolve, reject) => {
      const { signal, left } = call;
      if (signal?.aborted) return reject(signal.reason);
      if (channel === undefined && this.#unsent.size >= this.#maxUnsent) {
        return reject(
          new NuropbTransportError(
            `${call.service}.${call.method} was not sent: ${this.#maxUnsent} calls wait for the connection already`,
            { code: "TOO_MANY_PENDING" },
          ),
        );
      }
      const id = message.properties.correlationId!;
      const timer = setTimeout(() => this.#take(id)?.reject(timeoutOf(call)), left);
      const abort = signal && (() => this.#take(id)?.reject(signal.reason));
      if (abort) signal.addEventListener("abort", abort);
      this.#pending.set(id, { ...call, message, resolve, reject, timer, abort });
      if (channel === undefined) this.#unsent.add(id);
      else this.#send(id, message, channel);
    });
  }

  /** An answer came. Gives whether anyone waited for it: a second one, or one too late, is nobody's. */
  answer(message: Message): boolean {
    const pending = this.#take(message.properties.correlationId);
    pending?.resolve(message);
    return pending !== undefined;
  }

  /** A request came back, since no queue takes it. */
  return(message: Message): void {
    const pending = this.#take(message.properties.correlationId);
    pending?.reject(notDelivered(pending.service, pending.method));
  }

  /** Fails every call that was sent: its answer will not come. */
  failSent(error: NuropbException): void {
    for (const [id, { service, method }] of this.#pending) {
      if (this.#unsent.has(id)) continue;
      this.#take(id)?.reject(
        error.code === "NOT_FOUND" ? notDelivered(service, method, error) : new NuropbTransportError(
          `${service}.${method} has no answer, and may have run: ${error.message}`,
          { code: error.code, cause: error },
        ),
      );
    }
  }

  /** Fails every call. */
  failAll(error: NuropbException): void {
    for (const id of this.#pending.keys()) this.#take(id)?.reject(error);
  }

  /** Sends the calls that waited for a connection. */
  sendWaiting(channel: CallChannel): void {
    for (const id of this.#unsent) {
      this.#unsent.delete(id);
      const pending = this.#pending.get(id);
      if (pending !== undefined) this.#send(id, pending.message, channel);
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
    const pending = this.#pending.get(id);
    if (pending === undefined) return undefined;
    this.#pending.delete(id);
    this.#unsent.delete(id);
    clearTimeout(pending.timer);
    if (pending.abort) pending.signal?.removeEventListener("abort", pending.abort);
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
