/**
 * The mesh itself: a supervised connection, and everything that goes over it.
 *
 * @module
 */
import type {
  Caller,
  CallerScope,
  DeadLetter,
  DeliveryStream,
  EventMessage,
  SubscribeOptions,
  Subscription,
} from "./calls.ts";
import { MeshCaller } from "./client/caller.ts";
import type { CallerCore } from "./client/caller.ts";
import { ConsumerStream } from "./client/consumer_stream.ts";
import type { StreamSource } from "./client/consumer_stream.ts";
import { closedError, Correlator } from "./client/correlator.ts";
import { Discovery } from "./client/discovery.ts";
import { Requests } from "./client/requests.ts";
import { Sealer } from "./client/sealer.ts";
import { Waits } from "./deadlines.ts";
import { withDeadline } from "./deferred.ts";
import { NuropbHandlingError, NuropbTimeoutError, reasonOf } from "./errors.ts";
import { MessageContext } from "./host/context.ts";
import type { Context, ContextHost } from "./host/context.ts";
import { IdSource } from "./ids.ts";
import { checkSize } from "./message.ts";
import type { Message } from "./message.ts";
import type { Mesh, StatusEvent } from "./mesh.ts";
import { checkInteger, checkOptions, checkTopic, invalid, isList, loggerOf } from "./options.ts";
import type { CheckedConnectOptions } from "./options.ts";
import { exposesPassword, openerOf, parseUrl } from "./transport/open.ts";
import { Supervisor } from "./transport/supervisor.ts";
import type { MeshStatus } from "./transport/supervisor.ts";
import {
  DEAD_LETTER_QUEUE,
  EVENTS_EXCHANGE,
  meshTopology,
  subscriptionTopology,
} from "./transport/topology.ts";
import { decodeEvent, DESCRIBE_METHOD, encodeEvent } from "./wire/envelope.ts";

/** The {@linkcode Mesh} that `connect` gives; `serve` uses what is beyond the interface. */
export class MeshConnection extends MeshCaller implements Mesh {
  readonly #core: CallerCore;
  readonly #supervisor: Supervisor;
  readonly #correlator: Correlator;
  readonly #events: EventTarget;
  readonly #shutdown = new AbortController();
  /** Loops that wait for more, which is not to come once the mesh is closed. */
  readonly #streams = new Set<Pick<DeliveryStream<unknown>, "close">>();
  readonly #options: CheckedConnectOptions;

  constructor(urls: readonly string[], options: CheckedConnectOptions) {
    const logger = loggerOf(options.logger);
    const correlator = new Correlator(options.maxPending);
    const events = new EventTarget();
    const parsed = urls.map(parseUrl);
    const brokers = parsed.map((url) => openerOf(url, options, parsed.length > 1));
    if (parsed.some(exposesPassword)) {
      logger.warn("the account's password goes to the broker unencrypted: use amqps: or wss:");
    }
    const supervisor: Supervisor = new Supervisor(
      brokers,
      {
        onreply: (message) => {
          if (!correlator.answer(message)) {
            logger.debug("an answer that nobody waits for is dropped", {
              correlationId: message.properties.correlationId,
            });
          }
        },
        onreturn: (message) => correlator.return(message),
        onrefused: (message) => correlator.refuse(message),
        onreset: (error, taken) => correlator.loseSent(error, taken),
        onpipelined: (channel) => correlator.sendWaiting(channel),
        onready: (connection) => correlator.sendWaiting(connection),
        onstatus: (status) => events.dispatchEvent(new CustomEvent("status", { detail: status })),
      },
      options.connectTimeout,
      logger,
    );
    const discovery = new Discovery((service, ttl) =>
      this.request(service, DESCRIBE_METHOD, {}, { encrypted: false, idempotent: true, ttl })
    );
    const ids = new IdSource();
    const { confirmTimeout, integers, maxPending } = options;
    const sealer = new Sealer(discovery, logger);
    const core: CallerCore = {
      requests: new Requests({
        supervisor,
        correlator,
        sealer,
        discovery,
        ids,
        logger,
        integers,
        maxPending,
      }),
      discovery,
      supervisor,
      ids,
      confirmTimeout,
      confirms: { waits: new Waits(), max: maxPending },
    };
    super(core);
    this.#core = core;
    this.#supervisor = supervisor;
    this.#correlator = correlator;
    this.#events = events;
    this.#options = options;
  }

  /** Connects for the first time. Without success it is closed, and so is everything that waits for it. */
  async open(signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#supervisor.open(signal);
    } catch (error) {
      this.#end(error as Error);
      throw error;
    }
  }

  get supervisor(): Supervisor {
    return this.#supervisor;
  }

  get options(): CheckedConnectOptions {
    return this.#options;
  }

  /** A caller for the context of one message. */
  callerFor(scope: CallerScope): Caller {
    return new MeshCaller(this.#core, scope);
  }

  /** An event that a method emits, ready to be published. Throws for one that cannot be. */
  encodeEvent(topic: string, event: unknown, traceId: string | null): Message {
    const { maxMessageSize } = this.#options;
    const message = encodeEvent({
      type: "event",
      topic: checkTopic(topic),
      event,
      context: {},
      correlationId: this.#core.ids.next(),
      traceId,
      target: null,
    }, EVENTS_EXCHANGE);
    checkSize(message, maxMessageSize);
    return message;
  }

  get status(): MeshStatus {
    return this.#supervisor.status;
  }

  subscribe<Payload = unknown>(
    topics: string | readonly string[],
    options: SubscribeOptions = {},
  ): Subscription<Payload, Context> {
    checkOptions(options);
    // Not by `map`, which leaves holes out.
    const patterns = Array.from<unknown, string>(isList(topics) ? topics : [topics], checkTopic);
    if (patterns.length === 0) throw invalid("The topics must be one pattern or more", topics);
    const prefetch = checkInteger("buffer", options.buffer ?? 256, 1, 65_535);
    const { ids } = this.#core;
    const logger = loggerOf(this.#options.logger);
    const host: ContextHost = {
      shutdown: options.signal ?? this.#shutdown.signal,
      callerFor: (scope) => this.callerFor(scope),
      encode: (topic) => {
        throw new NuropbHandlingError(
          `${topic} was not emitted: a subscriber has no outcome, so publish it over ctx.mesh`,
        );
      },
    };
    return this.#stream<EventMessage<Payload, Context>>({
      consume: (onitem) =>
        this.#supervisor.consume(
          () => {
            // A new name each time: after a reconnection the broker may still hold the old connection's queue.
            const queue = `nuropb-subscriber-${ids.next()}`;
            return {
              queue,
              prefetch,
              topology: subscriptionTopology(queue, patterns, this.#options.declare),
            };
          },
          (delivery) => {
            try {
              const message = decodeEvent(delivery, this.#options.integers);
              onitem(() => {
                delivery.ack();
                const { topic, event, target } = message;
                const ctx = new MessageContext(host, message, delivery.redelivered);
                return { topic, event: event as Payload, target, ctx };
              });
            } catch (error) {
              const fields = { topic: delivery.routingKey, reason: reasonOf(error) };
              logger.warn("an event cannot be read and is skipped", fields);
              delivery.ack();
            }
          },
          options.signal,
        ),
    }, options.signal);
  }

  #stream<Item>(
    source: Omit<StreamSource<Item>, "onclosed">,
    signal: AbortSignal | undefined,
  ): ConsumerStream<Item> {
    const stream: ConsumerStream<Item> = new ConsumerStream<Item>(
      { ...source, onclosed: () => this.#streams.delete(stream) },
      signal,
    );
    this.#streams.add(stream);
    return stream;
  }

  deadLetters(options: SubscribeOptions = {}): DeliveryStream<DeadLetter> {
    checkOptions(options);
    const prefetch = checkInteger("buffer", options.buffer ?? 256, 1, 65_535);
    const publish = (message: Message) =>
      withDeadline(
        this.#options.confirmTimeout,
        undefined,
        () => new NuropbTimeoutError("The broker did not confirm the replayed message: it may have it"),
        (signal) => this.#supervisor.publish(message, true, { signal }),
      );
    const stream: ConsumerStream<DeadLetter> = this.#stream<DeadLetter>({
      consume: async (onitem) => {
        const { deadLetterOf } = await import("./client/dead_letters.ts");
        return await this.#supervisor.consume(
          () => ({ queue: DEAD_LETTER_QUEUE, prefetch, topology: this.#options.declare ? meshTopology : [] }),
          (delivery) => onitem(() => deadLetterOf(delivery, publish, () => stream.closed)),
          options.signal,
        );
      },
    }, options.signal);
    return stream;
  }

  async ready(options: { signal?: AbortSignal } = {}): Promise<void> {
    checkOptions(options);
    await this.#supervisor.ready(options.signal);
  }

  addEventListener(
    type: "status",
    listener: (event: StatusEvent) => void,
    options?: AddEventListenerOptions,
  ): void {
    this.#events.addEventListener(type, listener as EventListener, options);
  }

  removeEventListener(type: "status", listener: (event: StatusEvent) => void): void {
    this.#events.removeEventListener(type, listener as EventListener);
  }

  async close(): Promise<void> {
    const closing = this.#supervisor.close();
    this.#end(closedError());
    await closing;
  }

  #end(reason: Error): void {
    this.#shutdown.abort(reason);
    this.#correlator.failAll(reason);
    for (const stream of this.#streams) stream.close().catch(() => {});
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
