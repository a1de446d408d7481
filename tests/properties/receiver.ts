/**
 * A real connection with one consumer, over a wire that a test feeds by hand.
 *
 * @module
 */
import assert from "node:assert/strict";
import { NuropbTransportError } from "../../src/errors.ts";
import type { ByteSocket } from "../../src/runtime/byte_socket.ts";
import { AmqpConsumer } from "../../src/transport/amqp_consumer.ts";
import { AmqpSocket } from "../../src/transport/amqp_socket.ts";
import type { AmqpSettings } from "../../src/transport/amqp_socket.ts";
import type { Delivery } from "../../src/transport/transport.ts";
import { FakeBroker, inMemory, settings } from "../transport/fake_broker.ts";
import type { Session } from "../transport/fake_broker.ts";

/** The queue that is consumed. */
export const QUEUE = "nuropb-shop-sq";

/** A connection that consumes. */
export interface Receiver {
  readonly socket: ByteSocket;
  readonly session: Session;
  readonly amqp: AmqpSocket;
  /** The consumer's. */
  readonly channel: number;
  /** What came, the oldest first. */
  readonly deliveries: Delivery[];
  /** Fails unless the connection goes on, or ended in the one way in which it may; ends it then. */
  assertSound(): void;
}

/** Opens one. It sends no heartbeat and waits for nothing. */
export async function openReceiver(changed: Partial<AmqpSettings> = {}): Promise<Receiver> {
  const { socket, session } = inMemory(new FakeBroker());
  const amqp = new AmqpSocket(socket, { ...settings, ...changed });
  const deliveries: Delivery[] = [];
  const ends: unknown[] = [];
  amqp.onend = (error) => ends.push(error);
  await amqp.connect();
  const channel = amqp.openChannel();
  const consumer = new AmqpConsumer(amqp, channel, {
    ondelivery: (delivery) => deliveries.push(delivery),
    onend: () => {},
  });
  await consumer.open({ queue: QUEUE, topology: [], prefetch: 100 });
  return {
    socket,
    session,
    amqp,
    channel: channel.id,
    deliveries,
    assertSound() {
      if (ends.length > 0) {
        assert.equal(ends.length, 1);
        assert.ok(ends[0] instanceof NuropbTransportError, String(ends[0]));
        assert.equal(amqp.closed, true);
      }
      amqp.end();
      assert.equal(ends.length, 1);
    },
  };
}
