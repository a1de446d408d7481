/**
 * Round trips over a broker, one at a time: of the bare AMQP client, of a request, and of an encrypted one.
 * Prints `{ bare, plain, encrypted }`, each with its median and 99th percentile in ms, as JSON.
 *
 * @module
 */
import { AMQPClient } from "@cloudamqp/amqp-client";
import { connect, serve } from "@nuropb/mesh";
import process from "node:process";

/** Round trip times in ms. */
export interface Times {
  readonly median: number;
  readonly p99: number;
}

/** What this program prints. */
export interface RoundTrips {
  readonly bare: Times;
  readonly plain: Times;
  readonly encrypted: Times;
}

const WARM_UP = 200;
const url = process.env["NUROPB_TEST_URL"]!;
const payload = { text: "x".repeat(50) };

async function measure(count: number, roundTrip: () => Promise<unknown>): Promise<Times> {
  const times: number[] = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    await roundTrip();
    times.push(performance.now() - start);
  }
  times.sort((first, second) => first - second);
  return { median: times[Math.floor(count / 2)]!, p99: times[Math.floor(count * 0.99)]! };
}

/** A request and its answer by hand, as the client's own documentation shows it. */
async function measureBare(count: number): Promise<Times> {
  const server = await new AMQPClient(url).connect();
  const client = await new AMQPClient(url).connect();
  const [serving, calling] = await Promise.all([server.channel(), client.channel()]);
  const queue = await serving.queueDeclare("", { exclusive: true });
  await serving.basicConsume(queue.name, { noAck: false }, async (message) => {
    await serving.basicPublish("", message.properties.replyTo!, message.body!, {});
    await message.ack();
  });
  let answered = () => {};
  await calling.basicConsume("amq.rabbitmq.reply-to", {}, () => answered());
  const body = JSON.stringify(payload);
  const times = await measure(count, () =>
    new Promise<void>((resolve, reject) => {
      answered = resolve;
      calling.basicPublish("", queue.name, body, { replyTo: "amq.rabbitmq.reply-to" }).catch(reject);
    }));
  await Promise.all([server.close(), client.close()]);
  return times;
}

const echo = (params: typeof payload) => params;
const service = await serve({ plain: echo, encrypted: echo }, {
  name: "echo",
  url,
  methods: { encrypted: { encrypted: true } },
});
const mesh = await connect(url);
const plain = () => mesh.request("echo", "plain", payload);
const encrypted = () => mesh.request("echo", "encrypted", payload);
await measure(WARM_UP, plain);
await measure(WARM_UP, encrypted);
const result: RoundTrips = {
  bare: await measureBare(50),
  plain: await measure(2_000, plain),
  encrypted: await measure(2_000, encrypted),
};
await mesh.close();
await service.close();
console.log(JSON.stringify(result));
