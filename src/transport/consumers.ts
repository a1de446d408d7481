/**
 * The consumers of a mesh: set up on each new connection, and again when the broker ends one.
 *
 * @module
 */
import { abortable, sleep } from "../deferred.ts";
import { reasonOf } from "../errors.ts";
import type { NuropbTransportError } from "../errors.ts";
import type { Logger } from "../options.ts";
import { backOff } from "./back_off.ts";
import { isLost, SupervisedConsumer } from "./supervised_consumer.ts";
import type { Connection, ConsumeOptions, Consumer, Delivery } from "./transport.ts";

/** How many connections may be lost over setting up a new consumer before its owner is told. */
const SETUP_ATTEMPTS = 5;

/** All consumers of one supervisor. */
export class Consumers {
  readonly #all = new Set<SupervisedConsumer>();
  readonly #ready: (signal?: AbortSignal) => Promise<Connection>;
  readonly #closing: AbortSignal;
  readonly #logger: Logger;

  /** @param ready Waits for a connection. @param closing Aborts when there will be none any more. */
  constructor(ready: (signal?: AbortSignal) => Promise<Connection>, closing: AbortSignal, logger: Logger) {
    this.#ready = ready;
    this.#closing = closing;
    this.#logger = logger;
  }

  /** Sets up a new one. */
  async add(
    options: () => ConsumeOptions,
    ondelivery: (delivery: Delivery) => void,
    signal?: AbortSignal,
  ): Promise<Consumer> {
    const consumer = new SupervisedConsumer(options, ondelivery, {
      onend: (error) => this.#restore(consumer, error),
      onclosed: () => this.#all.delete(consumer),
    });
    for (let attempt = 1;; attempt++) {
      const connection = await this.#ready(signal);
      try {
        await abortable(consumer.attach(connection), signal);
        this.#all.add(consumer);
        return consumer;
      } catch (error) {
        if (!signal?.aborted && isLost(error) && attempt < SETUP_ATTEMPTS) continue;
        // It may still come about, and must not stay then.
        await consumer.close();
        throw error;
      }
    }
  }

  /** Sets all of them up on a new connection. Rejects when that is lost. */
  async attachAll(connection: Connection): Promise<void> {
    await Promise.all([...this.#all].map(async (consumer) => {
      try {
        await consumer.attach(connection);
      } catch (error) {
        if (isLost(error)) throw error;
        this.#restore(consumer, error as NuropbTransportError);
      }
    }));
  }

  /** Sets one up again that the broker ended, or refused on a new connection. */
  async #restore(consumer: SupervisedConsumer, error: NuropbTransportError): Promise<void> {
    this.#logger.warn("a consumer is to be set up again", { reason: error.message });
    if (consumer.restoring) return;
    consumer.restoring = true;
    try {
      for (let attempt = 1; !consumer.closed; attempt++) {
        await sleep(backOff(attempt, error), this.#closing);
        const connection = await this.#ready();
        // A new connection sets up every consumer by itself.
        if (consumer.closed || consumer.connection === connection) return;
        try {
          await consumer.attach(connection);
          this.#logger.info("consumer set up again", { attempt });
          return;
        } catch (reason) {
          this.#logger.error("a consumer could not be set up again", { attempt, reason: reasonOf(reason) });
        }
      }
    } catch {
      // The mesh was closed.
    } finally {
      consumer.restoring = false;
    }
  }
}
