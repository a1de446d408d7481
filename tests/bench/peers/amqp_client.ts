/**
 * Request and reply by hand on @cloudamqp/amqp-client, as it comes.
 *
 * @module
 */
import { AMQPClient } from "@cloudamqp/amqp-client";
import { type Payload, runProgram } from "../program.ts";

const QUEUE = "bench-amqp-client";

runProgram({
  async serve({ url, concurrency }) {
    const client = new AMQPClient(url);
    await client.connect();
    const channel = await client.channel();
    await channel.queueDeclare(QUEUE, { durable: true });
    await channel.basicQos(concurrency);
    await channel.basicConsume(QUEUE, { noAck: false }, async (message) => {
      const { replyTo = "", correlationId = "" } = message.properties;
      const params: unknown = JSON.parse(message.bodyString() ?? "null");
      await channel.basicPublish("", replyTo, JSON.stringify(params), { correlationId });
      await message.ack();
    });
    return {};
  },

  async connect({ url }) {
    const client = new AMQPClient(url);
    await client.connect();
    const channel = await client.channel();
    const waiting = new Map<string, (result: unknown) => void>();
    await channel.basicConsume("amq.rabbitmq.reply-to", { noAck: true }, (message) => {
      const { correlationId = "" } = message.properties;
      waiting.get(correlationId)?.(JSON.parse(message.bodyString() ?? "null"));
      waiting.delete(correlationId);
    });
    let last = 0;
    const request = (payload: Payload) =>
      new Promise((resolve, reject) => {
        const correlationId = `${++last}`;
        waiting.set(correlationId, resolve);
        const properties = { correlationId, replyTo: "amq.rabbitmq.reply-to" };
        channel.basicPublish("", QUEUE, JSON.stringify(payload), properties).catch(reject);
      });
    return { actions: { request } };
  },
});
