/**
 * The limit program: what the AMQP client can do when nothing but JSON lies between it and the method, and its
 * writes are joined.
 *
 * @module
 */
import type { AMQPMessage, AMQPProperties } from "@cloudamqp/amqp-client";
import { JoinedClient } from "./joined_client.ts";
import { type Payload, type Program } from "./program.ts";

const QUEUE = "bench-limit";
const EVENTS = "bench-limit-events";
const PERSISTENT = 2;

/** What goes over the wire besides the payload. */
export interface Wire {
  /** Whether the broker is to say when no queue takes a request. */
  readonly mandatory: boolean;
  /** A correlation id. */
  nextId(): string;
  /** The properties of a message besides its addresses. */
  properties(type: "request" | "command" | "response"): AMQPProperties;
  /** What is sent as JSON. */
  request(type: "request" | "command", payload: Payload, correlationId: string): unknown;
  /** The payload of what came. */
  params(body: unknown): unknown;
  response(result: unknown, correlationId: string, replyTo: string): unknown;
  result(body: unknown): unknown;
}

/** Makes the program. */
export function limitProgram(wire: Wire): Program {
  return {
    async serve({ url, concurrency, subscribers }) {
      const client = new JoinedClient(url);
      await client.connect();
      const channel = await client.channel();
      await channel.queueDeclare(QUEUE, { durable: true, autoDelete: false, exclusive: false });
      await channel.basicQos(concurrency);
      await channel.basicConsume(QUEUE, { noAck: false }, (message) => {
        const { replyTo, correlationId } = message.properties;
        const result = echo(wire.params(read(message)));
        // A command has nobody who waits for an answer.
        if (replyTo !== undefined && correlationId !== undefined) {
          const properties = { ...wire.properties("response"), correlationId };
          const body = JSON.stringify(wire.response(result, correlationId, replyTo));
          void channel.basicPublish("", replyTo, body, properties);
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
      await channel.basicConsume("amq.rabbitmq.reply-to", { noAck: true }, (message) => {
        const { correlationId = "" } = message.properties;
        const settle = waiting.get(correlationId);
        if (settle === undefined) return;
        waiting.delete(correlationId);
        settle(wire.result(read(message)));
      });
      const request = (payload: Payload) =>
        new Promise((resolve) => {
          const correlationId = wire.nextId();
          waiting.set(correlationId, resolve);
          const properties = {
            ...wire.properties("request"),
            correlationId,
            replyTo: "amq.rabbitmq.reply-to",
          };
          const body = JSON.stringify(wire.request("request", payload, correlationId));
          void channel.basicPublish("", QUEUE, body, properties, wire.mandatory);
        });
      if (cold) return { actions: { request } };

      const confirmed = await client.channel();
      await confirmed.confirmSelect();
      const persistent = { deliveryMode: PERSISTENT, contentType: "application/json" };
      return {
        actions: {
          request,
          command: (payload) => {
            const body = JSON.stringify(wire.request("command", payload, wire.nextId()));
            const properties = { ...persistent, ...wire.properties("command") };
            return confirmed.basicPublish("", QUEUE, body, properties, true);
          },
          event: (payload) =>
            confirmed.basicPublish(EVENTS, "bench.done", JSON.stringify(payload), persistent),
        },
      };
    },
  };
}

function read(message: AMQPMessage): unknown {
  return JSON.parse(message.bodyString() ?? "null");
}

function echo(params: unknown): unknown {
  return params;
}
