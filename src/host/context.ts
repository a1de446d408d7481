/**
 * What a method or an event's handler knows of the message it handles.
 *
 * @module
 */
import type { Caller, CallerScope } from "../calls.ts";
import { NuropbHandlingError } from "../errors.ts";
import type { Message } from "../message.ts";
import { MAX_MILLISECONDS } from "../options.ts";
import type { Call, Event, WireContext } from "../wire/envelope.ts";

/** The second parameter of every method and event handler. */
export interface Context<Claims = unknown> {
  /** What `authorize` gave for the caller's token; absent where nobody was asked who they are. */
  readonly claims?: Claims;
  /** What the caller sent along, as it came: never trust it without a check. */
  readonly raw: Readonly<Record<string, unknown>>;
  /** Ties messages of one piece of work together; a call over `mesh` takes it on. */
  readonly traceId: string | null;
  /** Identifies this message. */
  readonly correlationId: string;
  /** When the caller stops waiting, in ms since the epoch; `Infinity` for an event. */
  readonly deadline: number;
  /** Aborts at the deadline, and when the service closes and does not want to wait any longer. */
  readonly signal: AbortSignal;
  /** Whether the message was delivered before: the work may have been done, or begun. */
  readonly redelivered: boolean;
  /** Calls on with the same trace, and no more time than is left. */
  readonly mesh: Caller;
  /**
   * Publishes an event once the method has succeeded, before the message counts as done. Nothing is published when
   * it throws.
   *
   * @throws {NuropbValidationError} at once, for a topic or event that cannot be sent.
   * @throws {NuropbMessageError} at once, for one that is too large.
   * @throws {NuropbHandlingError} when the method has ended already.
   */
  emit(topic: string, event: unknown): void;
}

/** What the contexts of one service or subscription share. */
export interface ContextHost {
  /** Aborts when the service closes and the drain is over. */
  readonly shutdown: AbortSignal;
  /** Makes the caller for `ctx.mesh`. */
  callerFor(scope: CallerScope): Caller;
  /** Encodes an event that is emitted, and throws for one that cannot be sent. */
  encode(topic: string, event: unknown, traceId: string | null): Message;
}

/** A {@linkcode Context}. Signal and caller are made when they are first asked for: most methods need neither. */
export class MessageContext implements Context {
  claims?: unknown;
  readonly deadline: number;
  /** Events that wait for the method to succeed, as they were when they were emitted; absent when there are none. */
  emitted?: Message[];
  readonly redelivered: boolean;
  readonly #host: ContextHost;
  readonly #message: Call | Event;
  #mesh: Caller | undefined;
  #controller: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #onshutdown: (() => void) | undefined;
  #over = false;

  /** @param host What it shares with others. @param message What it is the context of. */
  constructor(host: ContextHost, message: Call | Event, redelivered: boolean) {
    this.#host = host;
    this.#message = message;
    this.redelivered = redelivered;
    this.deadline = message.type !== "event" && message.ttl !== undefined
      ? Date.now() + message.ttl
      : Infinity;
  }

  get raw(): Readonly<WireContext> {
    return this.#message.context;
  }

  get traceId(): string | null {
    return this.#message.traceId;
  }

  get correlationId(): string {
    return this.#message.correlationId;
  }

  get mesh(): Caller {
    return this.#mesh ??= this.#host.callerFor(this);
  }

  get signal(): AbortSignal {
    // Where nobody waits there is nothing else that could end it.
    if (this.deadline === Infinity) return this.#host.shutdown;
    if (this.#controller === undefined) {
      const controller = this.#controller = new AbortController();
      const { shutdown } = this.#host;
      if (shutdown.aborted) {
        controller.abort(shutdown.reason);
      } else if (!this.#over) {
        this.#onshutdown = () => controller.abort(shutdown.reason);
        shutdown.addEventListener("abort", this.#onshutdown);
        const timeout = () =>
          controller.abort(new DOMException("The caller's deadline has passed", "TimeoutError"));
        this.#timer = setTimeout(timeout, Math.min(this.deadline - Date.now(), MAX_MILLISECONDS));
      }
    }
    return this.#controller.signal;
  }

  emit(topic: string, event: unknown): void {
    // Published are those of the method's own time: a later one would be lost without a word.
    if (this.#over) throw new NuropbHandlingError(`${topic} was not emitted: its method has ended already`);
    (this.emitted ??= []).push(this.#host.encode(topic, event, this.traceId));
  }

  /** The message is done with: no timer or listener stays behind. */
  end(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    if (this.#onshutdown) this.#host.shutdown.removeEventListener("abort", this.#onshutdown);
  }
}
