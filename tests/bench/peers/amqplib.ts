/**
 * Request and reply by hand on amqplib.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type Payload, runProgram } from "../program.ts";
import { packageOf } from "./package_of.ts";

interface Message {
  readonly content: Buffer;
  readonly properties: { readonly replyTo: string; readonly correlationId: string };
}

interface Channel {
  assertQueue(name: string, options: object): Promise<unknown>;
  prefetch(count: number): Promise<unknown>;
  consume(queue: string, handle: (message: Message | null) => void, options: object): Promise<unknown>;
  sendToQueue(queue: string, content: Buffer, options: object): boolean;
  ack(message: Message): void;
}

interface Amqplib {
  connect(url: string): Promise<{ createChannel(): Promise<Channel> }>;
}

const QUEUE = "bench-amqplib";
const { connect } = await packageOf<Amqplib>("amqplib");

runProgram({
  async serve({ url, concurrency }) {
    const channel = await (await connect(url)).createChannel();
    await channel.assertQueue(QUEUE, { durable: true });
    await channel.prefetch(concurrency);
    await channel.consume(QUEUE, (message) => {
      if (message === null) return;
      const { replyTo, correlationId } = message.properties;
      const params: unknown = JSON.parse(message.content.toString());
      channel.sendToQueue(replyTo, Buffer.from(JSON.stringify(params)), { correlationId });
      channel.ack(message);
    }, { noAck: false });
    return {};
  },

  async connect({ url }) {
    const channel = await (await connect(url)).createChannel();
    const waiting = new Map<string, (result: unknown) => void>();
    await channel.consume("amq.rabbitmq.reply-to", (message) => {
      if (message === null) return;
      const { correlationId } = message.properties;
      waiting.get(correlationId)?.(JSON.parse(message.content.toString()));
      waiting.delete(correlationId);
    }, { noAck: true });
    let last = 0;
    const request = (payload: Payload) =>
      new Promise((resolve) => {
        const correlationId = `${++last}`;
        waiting.set(correlationId, resolve);
        const options = { correlationId, replyTo: "amq.rabbitmq.reply-to" };
        channel.sendToQueue(QUEUE, Buffer.from(JSON.stringify(payload)), options);
      });
    return { actions: { request } };
  },
});
