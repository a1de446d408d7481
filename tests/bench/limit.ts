/**
 * The limit program: what the AMQP client can do when nothing but JSON lies between it and the method, and its
 * writes are joined.
 *
 * @module
 */
import type { AMQPMessage } from "@cloudamqp/amqp-client";
import { JoinedClient } from "./joined_client.ts";
import { type Payload, runProgram } from "./program.ts";

const QUEUE = "bench-limit";
const EVENTS = "bench-limit-events";
const PERSISTENT = 2;

runProgram({
  async serve({ url, concurrency, subscribers }) {
    const client = new JoinedClient(url);
    await client.connect();
    const channel = await client.channel();
    await channel.queueDeclare(QUEUE, { durable: true, autoDelete: false, exclusive: false });
    await channel.basicQos(concurrency);
    await channel.basicConsume(QUEUE, { noAck: false }, (message) => {
      const { replyTo, correlationId } = message.properties;
      const result = echo(read(message));
      // A command has nobody who waits for an answer.
      if (replyTo !== undefined && correlationId !== undefined) {
        void channel.basicPublish("", replyTo, JSON.stringify(result), { correlationId });
      }
      void message.ack();
    });

    let received = 0;
    const listening = await client.channel();
    await listening.exchangeDeclare(EVENTS, "topic", { durable: true });
    await listening.basicQos(concurrency);
    for (let index = 0; index < subscribers; index++) {
      const queue = await listening.queueDeclare("", { exclusive: true });
      await listening.queueBind(queue.name, EVENTS, "bench.*");
      await listening.basicConsume(queue.name, { noAck: false }, (message) => {
        read(message);
        received++;
        void message.ack();
      });
    }
    return { received: () => received };
  },

  async connect({ url, cold }) {
    const client = new JoinedClient(url);
    await client.connect();
    const channel = await client.channel();
    const waiting = new Map<string, (result: unknown) => void>();
    let last = 0;
    await channel.basicConsume("amq.rabbitmq.reply-to", { noAck: true }, (message) => {
      const { correlationId = "" } = message.properties;
      const settle = waiting.get(correlationId);
      if (settle === undefined) return;
      waiting.delete(correlationId);
      settle(read(message));
    });
    const request = (payload: Payload) =>
      new Promise((resolve) => {
        const correlationId = (++last).toString(36);
        waiting.set(correlationId, resolve);
        const properties = { correlationId, replyTo: "amq.rabbitmq.reply-to" };
        void channel.basicPublish("", QUEUE, JSON.stringify(payload), properties);
      });
    if (cold) return { actions: { request } };

    const confirmed = await client.channel();
    await confirmed.confirmSelect();
    const properties = { deliveryMode: PERSISTENT, contentType: "application/json" };
    return {
      actions: {
        request,
        command: (payload) => confirmed.basicPublish("", QUEUE, JSON.stringify(payload), properties, true),
        event: (payload) => confirmed.basicPublish(EVENTS, "bench.done", JSON.stringify(payload), properties),
      },
    };
  },
});

function read(message: AMQPMessage): unknown {
  return JSON.parse(message.bodyString() ?? "null");
}

function echo(params: unknown): unknown {
  return params;
}
