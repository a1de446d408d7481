/**
 * A consumer that outlives its connection.
 *
 * @module
 */
import { NuropbException } from "../errors.ts";
import type { NuropbTransportError } from "../errors.ts";
import type { Connection, ConsumeOptions, Consumer, Delivery } from "./transport.ts";

/** A consumer that outlives its connection. */
export class SupervisedConsumer implements Consumer {
  /** Whether its owner wants no more. */
  closed = false;
  /** Whether someone is at setting it up again. */
  restoring = false;
  /** The connection that it runs on. */
  connection: Connection | undefined;
  readonly #options: () => ConsumeOptions;
  readonly #ondelivery: (delivery: Delivery) => void;
  readonly #owner: { onend(error: NuropbTransportError): void; onclosed(): void };
  #current: Consumer | undefined;

  constructor(
    options: () => ConsumeOptions,
    ondelivery: (delivery: Delivery) => void,
    owner: { onend(error: NuropbTransportError): void; onclosed(): void },
  ) {
    this.#options = options;
    this.#ondelivery = ondelivery;
    this.#owner = owner;
  }

  /** Runs on a connection. */
  async attach(connection: Connection): Promise<void> {
    let ended = false;
    let isOwned = false;
    const consumer = await connection.consume(this.#options(), {
      ondelivery: (delivery) => {
        // It was given up while it was set up, and only comes to be closed.
        if (this.closed && !isOwned) delivery.requeue();
        else this.#ondelivery(delivery);
      },
      onend: (error) => {
        ended = true;
        if (this.connection === connection) this.connection = undefined;
        // When the whole connection goes, the next one attaches every consumer.
        if (!this.closed && !isLost(error)) this.#owner.onend(error);
      },
    });
    if (this.closed) return await consumer.close();
    isOwned = true;
    this.#current = consumer;
    if (!ended) this.connection = connection;
  }

  async cancel(): Promise<void> {
    this.#forget();
    await ignoreLoss(this.#current?.cancel());
  }

  async close(): Promise<void> {
    this.#forget();
    await ignoreLoss(this.#current?.close());
  }

  #forget(): void {
    this.closed = true;
    this.#owner.onclosed();
  }
}

/** Whether an operation failed with its connection, so that it may be tried over the next one. */
export function isLost(error: unknown): boolean {
  return error instanceof NuropbException && (error.code === "CONNECTION_LOST" || error.code === "TIMEOUT");
}

async function ignoreLoss(operation: Promise<void> | undefined): Promise<void> {
  try {
    await operation;
  } catch {
    // The connection is gone, and the consumer with it.
  }
}
