/**
 * Keeps a connection open: connects, and when it is lost connects anew and sets its consumers up again.
 *
 * @module
 */
import type { SignalSource } from "../deadlines.ts";
import { abortable, sleep, Waiters, withDeadline } from "../deferred.ts";
import { NuropbTimeoutError, NuropbTransportError, reasonOf } from "../errors.ts";
import type { Message } from "../message.ts";
import type { Logger } from "../options.ts";
import { backOff } from "./back_off.ts";
import { Consumers } from "./consumers.ts";
import { isLost } from "./supervised_consumer.ts";
import { PublishRefused } from "./transport.ts";
import type {
  Connection,
  ConnectionHandlers,
  ConsumeOptions,
  Consumer,
  Delivery,
  OpenConnection,
} from "./transport.ts";

/** Where a mesh stands with its broker. */
export type MeshStatus =
  /** A connection is being opened. */
  | { readonly state: "connecting"; readonly attempt: number }
  /** Connected; consumers run. `blocked` is why the broker takes no messages for now, which wait here meanwhile. */
  | { readonly state: "open"; readonly blocked?: string }
  /** The connection was lost or could not be opened; the next attempt comes after `delay` ms. */
  | {
    readonly state: "waiting";
    readonly attempt: number;
    readonly delay: number;
    readonly error: NuropbTransportError;
  }
  /** Its owner closes it. */
  | { readonly state: "closing" }
  /** Closed for good. */
  | { readonly state: "closed" };

/** What the supervisor tells its owner. */
export interface SupervisorHandlers
  extends Pick<ConnectionHandlers, "onreply" | "onreturn" | "onrefused" | "onreset" | "onpipelined"> {
  /** The status changed. */
  onstatus(status: MeshStatus): void;
  /** Messages can be sent, from now on or again. */
  onready(connection: Connection): void;
}

/** A connection that was lost sooner than this, in ms, counts as one that was not reached. */
const STEADY = 1_000;
/** How long an attempt may take to end that is given up, in ms. */
const GIVE_UP_TIMEOUT = 2_000;

/** Holds at most one open {@linkcode Connection}. */
export class Supervisor {
  readonly #brokers: readonly OpenConnection[];
  readonly #handlers: SupervisorHandlers;
  readonly #connectTimeout: number;
  readonly #logger: Logger;
  readonly #consumers: Consumers;
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;
  #status: MeshStatus = { state: "connecting", attempt: 1 };
  #connection: Connection | undefined;
  /** The last attempt to open one, which may be under way. */
  #attempt: Promise<void> | undefined;
  /** They look again when a connection takes messages, or none ever will. */
  readonly #waiters = new Waiters();
  #nextBroker = 0;
  #openedAt = 0;
  #attempts = 0;

  /**
   * @param brokers One for each url of the cluster.
   * @param handlers Told of answers and of the status.
   * @param connectTimeout In ms, for the first connection in all, and for each later attempt.
   * @param logger Told of losses and attempts.
   */
  constructor(
    brokers: readonly OpenConnection[],
    handlers: SupervisorHandlers,
    connectTimeout: number,
    logger: Logger,
  ) {
    this.#brokers = brokers;
    this.#handlers = handlers;
    this.#connectTimeout = connectTimeout;
    this.#logger = logger;
    this.#consumers = new Consumers((signal) => this.ready(signal), this.#closing.signal, logger);
  }

  /** Where it stands. */
  get status(): MeshStatus {
    return this.#status;
  }

  /** The connection, if one is open now and takes messages. */
  get connection(): Connection | undefined {
    return this.#connection?.ready === true ? this.#connection : undefined;
  }

  /** How many wait for a connection. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /**
   * Connects for the first time, trying each broker once: those that are left share the time that is.
   *
   * @throws {NuropbTransportError} the last broker's refusal.
   */
  async open(signal: AbortSignal | undefined): Promise<void> {
    const deadline = performance.now() + this.#connectTimeout;
    for (let left = this.#brokers.length; left > 0; left--) {
      try {
        // Never more than was asked for, by however little: it may be as long as a timer can.
        const share = Math.ceil((deadline - performance.now()) / left);
        const timeout = Math.min(this.#connectTimeout, share);
        return await (this.#attempt = this.#connect(timeout, signal, this.#handlers.onpipelined));
      } catch (error) {
        // Its owner may have closed it meanwhile.
        this.#closing.signal.throwIfAborted();
        if (left === 1 || signal?.aborted) {
          this.#closing.abort(error);
          this.#waiters.wake();
          this.#transition({ state: "closed" });
          throw error;
        }
        this.#logger.warn("broker not reached, trying the next one", { reason: reasonOf(error) });
      }
    }
  }

  /** Waits for a connection that takes messages. Rejects with the signal's reason, or when the mesh is closed. */
  async ready(signal?: AbortSignal): Promise<Connection> {
    for (;;) {
      this.#closing.signal.throwIfAborted();
      // It may have stopped to take them between its opening and this turn.
      const { connection } = this;
      if (connection !== undefined) return connection;
      await this.#waiters.wait(signal);
    }
  }

  /** Publishes with a confirm; over a lost connection again, until the broker has confirmed it. */
  async publish(message: Message, mandatory: boolean, source: SignalSource): Promise<void> {
    const { expiration } = message.properties;
    const deadline = expiration === undefined ? undefined : Date.now() + Number(expiration);
    for (let refusals = 0;;) {
      const connection = this.connection ?? await this.#readyBefore(deadline, message, source.signal);
      try {
        return await connection.publish(message, mandatory, source);
      } catch (error) {
        const { signal } = source;
        signal.throwIfAborted();
        // Between two nodes of a cluster that passes; elsewhere a queue is full, which its owner wants to know.
        if (error instanceof PublishRefused && this.#brokers.length > 1) {
          await sleep(backOff(++refusals, error), signal);
        } else if (!isLost(error)) throw error;
      }
    }
  }

  /** Waits for a connection as long as a message is worth something, and leaves it what remains of that. */
  async #readyBefore(
    deadline: number | undefined,
    { routingKey, properties }: Message,
    signal: AbortSignal,
  ): Promise<Connection> {
    if (deadline === undefined) return await this.ready(signal);
    const expired = () =>
      new NuropbTimeoutError(
        `The message to ${routingKey} expired before there was a connection to send it over`,
      );
    const left = deadline - Date.now();
    if (left <= 0) throw expired();
    const connection = await withDeadline(left, signal, expired, (signal) => this.ready(signal));
    properties.expiration = String(Math.max(1, deadline - Date.now()));
    return connection;
  }

  /**
   * Consumes, and goes on after each reconnection.
   *
   * @param options Asked anew each time, so that a queue of one connection's own gets a name of its own.
   * @throws {NuropbTransportError} when the broker refuses the first time.
   */
  consume(
    options: () => ConsumeOptions,
    ondelivery: (delivery: Delivery) => void,
    signal?: AbortSignal,
  ): Promise<Consumer> {
    return this.#consumers.add(options, ondelivery, signal);
  }

  /** Closes for good. */
  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    if (this.#status.state === "closed") return;
    this.#transition({ state: "closing" });
    const closed = new NuropbTransportError("The mesh was closed: connect anew", { code: "CLOSED" });
    this.#closing.abort(closed);
    this.#waiters.wake();
    const connection = this.#connection;
    this.#connection = undefined;
    // One that is being opened says goodbye, too.
    const givenUp = withDeadline(GIVE_UP_TIMEOUT, undefined, () => closed, async () => await this.#attempt);
    await Promise.allSettled([connection?.close(), givenUp]);
    this.#transition({ state: "closed" });
  }

  #transition(status: MeshStatus): void {
    this.#status = status;
    this.#handlers.onstatus(status);
  }

  #setOpen(connection: Connection): void {
    this.#connection = connection;
    this.#openedAt = performance.now();
    this.#transition(openStatus(connection));
    this.#setReady(connection);
  }

  #setReady(connection: Connection): void {
    if (!connection.ready) return;
    this.#waiters.wake();
    this.#handlers.onready(connection);
  }

  /** The open connection takes messages again, or no more. */
  #onflow(connection: Connection): void {
    if (connection !== this.#connection) return;
    const { blocked } = connection;
    if (this.#status.state === "open" && this.#status.blocked !== blocked) {
      if (blocked !== undefined) this.#logger.warn("the broker takes no messages", { reason: blocked });
      else this.#logger.info("the broker takes messages again");
      this.#transition(openStatus(connection));
    }
    this.#setReady(connection);
  }

  /** One attempt, at the next broker in turn. */
  async #connect(
    timeout: number,
    signal?: AbortSignal,
    onpipelined: ConnectionHandlers["onpipelined"] = () => {},
  ): Promise<void> {
    const open = this.#brokers[this.#nextBroker++ % this.#brokers.length]!;
    const attempt = new AbortController();
    const timer = setTimeout(() => {
      attempt.abort(
        new NuropbTransportError(`The broker did not answer within ${timeout} ms`, {
          code: "CONNECT_FAILED",
        }),
      );
    }, timeout);
    const abort = () => attempt.abort(signal?.reason ?? this.#closing.signal.reason);
    signal?.addEventListener("abort", abort);
    this.#closing.signal.addEventListener("abort", abort);
    if (signal?.aborted || this.#closing.signal.aborted) abort();
    let connection: Connection | undefined;
    let lost: NuropbTransportError | undefined;
    try {
      connection = await open({
        onreply: this.#handlers.onreply,
        onreturn: this.#handlers.onreturn,
        onrefused: this.#handlers.onrefused,
        onreset: this.#handlers.onreset,
        onpipelined,
        onflow: () => {
          if (connection !== undefined) this.#onflow(connection);
        },
        onclose: (error) => {
          lost = error ?? new NuropbTransportError("The broker closed the connection");
          if (connection !== undefined && connection === this.#connection) this.#lose(lost);
        },
      }, attempt.signal);
      await abortable(this.#consumers.attachAll(connection), attempt.signal);
      if (lost !== undefined) throw lost;
      attempt.signal.throwIfAborted();
      this.#setOpen(connection);
    } catch (error) {
      if (connection !== undefined) {
        // Requests may have gone out on it while it was opened.
        this.#handlers.onreset(new NuropbTransportError(reasonOf(error), { cause: error }), true);
        await connection.close();
      }
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      this.#closing.signal.removeEventListener("abort", abort);
    }
  }

  #lose(reason: NuropbTransportError): void {
    this.#connection = undefined;
    if (this.#closing.signal.aborted) return;
    this.#logger.warn("connection to the broker lost", { reason: reason.message });
    this.#handlers.onreset(new NuropbTransportError(reason.message, { cause: reason }), true);
    this.#reconnect(reason).catch(() => {
      // Closed meanwhile.
    });
  }

  async #reconnect(lost: NuropbTransportError): Promise<void> {
    let error = lost;
    if (performance.now() - this.#openedAt >= STEADY) this.#attempts = 0;
    for (;;) {
      const attempt = ++this.#attempts;
      const delay = backOff(attempt, error);
      this.#transition({ state: "waiting", attempt, delay, error });
      await sleep(delay, this.#closing.signal);
      this.#transition({ state: "connecting", attempt });
      try {
        await (this.#attempt = this.#connect(this.#connectTimeout));
        this.#logger.info("connected to the broker again", { attempt });
        return;
      } catch (reason) {
        this.#closing.signal.throwIfAborted();
        error = reason instanceof NuropbTransportError
          ? reason
          : new NuropbTransportError(`The connection could not be opened: ${reasonOf(reason)}`, {
            cause: reason,
          });
        this.#logger.warn("broker not reached", { attempt, reason: error.message });
      }
    }
  }
}

function openStatus({ blocked }: Connection): MeshStatus {
  return { state: "open", ...(blocked === undefined ? {} : { blocked }) };
}
