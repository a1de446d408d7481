/**
 * The RPC of rabbitmq-client.
 *
 * @module
 */
import { runProgram } from "../program.ts";
import { packageOf } from "./package_of.ts";

interface Message {
  readonly body: unknown;
}

interface Connection {
  createConsumer(
    options: object,
    handle: (message: Message, reply: (body: unknown) => Promise<void>) => Promise<void>,
  ): { once(event: "ready", listener: () => void): void };
  createRPCClient(options: object): { send(queue: string, body: unknown): Promise<Message> };
}

interface RabbitmqClient {
  readonly Connection: new (url: string) => Connection;
}

const QUEUE = "bench-rabbitmq-client";
const { Connection } = await packageOf<RabbitmqClient>("rabbitmq-client");

runProgram({
  async serve({ url, concurrency }) {
    const consumer = new Connection(url).createConsumer({
      queue: QUEUE,
      queueOptions: { durable: true },
      qos: { prefetchCount: concurrency },
    }, async (message, reply) => {
      await reply(message.body);
    });
    await new Promise<void>((resolve) => consumer.once("ready", resolve));
    return {};
  },

  connect({ url }) {
    const client = new Connection(url).createRPCClient({});
    return Promise.resolve({
      actions: { request: async (payload) => (await client.send(QUEUE, payload)).body },
    });
  },
});
