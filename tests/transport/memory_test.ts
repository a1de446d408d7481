import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { NuropbMessageError, NuropbNotDeliveredError, NuropbTransportError } from "../../src/errors.ts";
import type { NuropbException } from "../../src/errors.ts";
import { bytesOf } from "../../src/message.ts";
import type { Message, MessageProperties } from "../../src/message.ts";
import { memoryBroker, openMemory } from "../../src/transport/memory.ts";
import type { MemoryOptions } from "../../src/transport/memory.ts";
import type { MemoryBroker } from "../../src/transport/memory_broker.ts";
import type { MemoryQueueInfo } from "../../src/transport/memory_queue.ts";
import {
  DEAD_LETTER_EXCHANGE,
  DEAD_LETTER_QUEUE,
  EVENTS_EXCHANGE,
  meshTopology,
  privateQueue,
  RPC_EXCHANGE,
  serviceQueue,
  serviceTopology,
  subscriptionTopology,
} from "../../src/transport/topology.ts";
import type { Declaration, QueueDeclaration } from "../../src/transport/topology.ts";
import type { Connection, Consumer, Delivery } from "../../src/transport/transport.ts";

/** A connection with everything that it was told. */
interface Client {
  readonly connection: Connection;
  readonly replies: Message[];
  readonly returns: Message[];
  readonly resets: NuropbException[];
  readonly closes: (NuropbTransportError | undefined)[];
}

/** A consumer with everything that it was told. */
interface Taker {
  readonly consumer: Consumer;
  readonly deliveries: Delivery[];
  readonly ends: NuropbTransportError[];
}

let count = 0;
let name = "";
let broker: MemoryBroker;
let clients: Client[] = [];

async function open(
  options: Partial<MemoryOptions> = {},
  signal = new AbortController().signal,
): Promise<Client> {
  const told = {
    replies: [] as Message[],
    returns: [] as Message[],
    resets: [] as NuropbException[],
    closes: [] as (NuropbTransportError | undefined)[],
  };
  const connection = await openMemory({ name, declare: true, maxMessageSize: 1_000, ...options }, {
    onreply: (message) => told.replies.push(message),
    onreturn: (message) => told.returns.push(message),
    onreset: (error) => told.resets.push(error),
    onrefused: () => {},
    onflow: () => {},
    onpipelined: () => {},
    onclose: (error) => told.closes.push(error),
  }, signal);
  const client = { connection, ...told };
  clients.push(client);
  return client;
}

async function take(
  client: Client,
  queue: string,
  options: {
    prefetch?: number;
    topology?: readonly Declaration[];
    ondelivery?: (delivery: Delivery) => void;
  } = {},
): Promise<Taker> {
  const { prefetch = 64, topology = [], ondelivery } = options;
  const deliveries: Delivery[] = [];
  const ends: NuropbTransportError[] = [];
  const consumer = await client.connection.consume({ queue, topology, prefetch }, {
    ondelivery: (delivery) => {
      deliveries.push(delivery);
      ondelivery?.(delivery);
    },
    onend: (error) => ends.push(error),
  });
  return { consumer, deliveries, ends };
}

function message(
  exchange: string,
  routingKey: string,
  body: string | Uint8Array = "",
  properties: Partial<MessageProperties> = {},
): Message {
  return {
    exchange,
    routingKey,
    properties: { headers: {}, ...properties },
    body: typeof body === "string" ? new TextEncoder().encode(body) : body,
  };
}

function queue(name: string, settings: Partial<QueueDeclaration> = {}): QueueDeclaration {
  return {
    kind: "queue",
    name,
    durable: true,
    exclusive: false,
    autoDelete: false,
    arguments: {},
    ...settings,
  };
}

const text = ({ body }: Message) => new TextDecoder().decode(bytesOf(body));
const texts = (messages: readonly Message[]) => messages.map(text);

/** What the embedded broker does by itself is done when the event loop has turned. */
const quiet = () => new Promise<void>((resolve) => setTimeout(resolve));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await quiet();
}

function info(queueName: string): MemoryQueueInfo | undefined {
  return broker.queues().find(({ name }) => name === queueName);
}

/** Puts texts into a queue. */
async function fill(client: Client, queueName: string, ...bodies: string[]): Promise<void> {
  for (const body of bodies) await client.connection.publish(message("", queueName, body), true);
}

function failsWith(
  code: string,
  pattern: RegExp,
  errorClass: new (text: string) => Error = NuropbTransportError,
) {
  return (error: unknown) => {
    assert.ok(error instanceof errorClass, String(error));
    assert.equal((error as NuropbException).code, code);
    assert.match(error.message, pattern);
    return true;
  };
}

function useBroker(): void {
  beforeEach(() => {
    name = `memory-test-${++count}`;
    broker = memoryBroker(name);
    clients = [];
  });
  afterEach(async () => {
    for (const { connection } of clients) await connection.close();
  });
}

describe("opening an embedded broker", () => {
  useBroker();

  it("leads everyone who names it to the same one", async () => {
    const [here, there] = [await open(), await open()];
    await here.connection.declare([queue("shared")]);
    await there.connection.publish(message("", "shared"), true);
    assert.equal(info("shared")?.ready, 1);
  });

  it("keeps brokers of other names apart, the one without a name too", async () => {
    const here = await open();
    const unnamed = await open({ name: "" });
    await here.connection.declare([queue("mine")]);
    await assert.rejects(take(unnamed, "mine"), failsWith("NOT_FOUND", /no queue 'mine' in vhost ''/));
    assert.notEqual(memoryBroker(""), broker);
  });

  it("declares the mesh's exchanges", async () => {
    const { connection } = await open();
    for (const exchange of [RPC_EXCHANGE, EVENTS_EXCHANGE, DEAD_LETTER_EXCHANGE]) {
      await connection.publish(message(exchange, "nobody"), false);
    }
  });

  it("declares nothing when it may not", async () => {
    const { connection } = await open({ declare: false });
    await assert.rejects(
      connection.publish(message(RPC_EXCHANGE, "nobody"), false),
      failsWith("NOT_FOUND", /no exchange 'nuropb-rpc-exchange'/),
    );
  });

  it("rejects with the reason of a signal that aborts", async () => {
    const controller = new AbortController();
    const opening = open({}, controller.signal);
    controller.abort(new Error("changed my mind"));
    await assert.rejects(opening, /changed my mind/);
    await assert.rejects(open({}, controller.signal), /changed my mind/);
  });

  it("is refused a queue for answers that another connection has", async () => {
    await open({ replyQueue: "answers" });
    await assert.rejects(
      open({ replyQueue: "answers" }),
      failsWith("PRECONDITION_FAILED", /RESOURCE_LOCKED/),
    );
  });
});

describe("a request over an embedded broker", () => {
  useBroker();

  async function serve(ondelivery: (delivery: Delivery) => void): Promise<Taker> {
    return await take(await open(), serviceQueue("greeter"), {
      topology: serviceTopology("greeter", [], { queueType: "classic" }),
      ondelivery,
    });
  }

  const answer = (delivery: Delivery) => {
    const { replyTo = "", correlationId } = delivery.properties;
    delivery.reply(message("", replyTo, `re: ${text(delivery)}`, { correlationId }));
    delivery.ack();
  };

  const request = ({ connection }: Client, body: string, properties: Partial<MessageProperties> = {}) =>
    connection.send(message(RPC_EXCHANGE, "greeter", body, { replyTo: connection.replyTo, ...properties }));

  for (const replyQueue of [undefined, "answers"]) {
    it(`is answered ${replyQueue === undefined ? "directly" : "over a queue"}`, async () => {
      await serve(answer);
      const client = await open({ replyQueue });
      request(client, "hello", { correlationId: "1" });
      request(client, "bye", { correlationId: "2" });
      await until(() => client.replies.length === 2);
      assert.deepEqual(texts(client.replies), ["re: hello", "re: bye"]);
      assert.deepEqual(client.replies.map(({ properties }) => properties.correlationId), ["1", "2"]);
      assert.equal(info(serviceQueue("greeter"))?.unacked, 0);
    });
  }

  it("has an address for answers that nobody can guess", async () => {
    const addresses = [await open(), await open()].map(({ connection }) => connection.replyTo);
    assert.match(addresses[0]!, /^amq\.rabbitmq\.reply-to\.[0-9a-f]{32}$/);
    assert.notEqual(addresses[0], addresses[1]);
  });

  it("is delivered and answered after the call stack of whoever sent it", async () => {
    const inStack = { send: false, reply: false };
    const client = await open();
    let delivered: () => void = () => {};
    const service = await serve((delivery) => {
      assert.equal(inStack.send, false);
      inStack.reply = true;
      answer(delivery);
      assert.equal(client.replies.length, 0);
      inStack.reply = false;
      delivered();
    });
    const taken = new Promise<void>((resolve) => delivered = resolve);
    inStack.send = true;
    request(client, "hello");
    assert.equal(service.deliveries.length, 0);
    inStack.send = false;
    await taken;
    await until(() => client.replies.length === 1);
  });

  it("shares neither body nor headers with whoever sent it", async () => {
    const service = await serve(() => {});
    const client = await open();
    const body = new Uint8Array([1, 2, 3]);
    const nested = { list: ["a"], when: new Date(5), bytes: new Uint8Array([7]), none: null };
    const sent = message(RPC_EXCHANGE, "greeter", body, { headers: { text: "before", nested } });
    client.connection.send(sent);
    body[0] = 9;
    sent.properties.headers["text"] = "after";
    sent.properties.correlationId = "after";
    nested.list.push("b");
    nested.when.setTime(6);
    nested.bytes[0] = 8;
    await until(() => service.deliveries.length === 1);
    const [taken] = service.deliveries;
    assert.deepEqual([...taken!.body], [1, 2, 3]);
    assert.equal(taken!.properties.correlationId, undefined);
    assert.deepEqual(taken!.properties.headers, {
      text: "before",
      nested: { list: ["a"], when: new Date(5), bytes: new Uint8Array([7]), none: null },
    });
    (taken!.body as Uint8Array)[1] = 9;
    (taken!.properties.headers["nested"] as typeof nested).list.push("c");
    assert.deepEqual([...body], [9, 2, 3]);
    assert.deepEqual(nested.list, ["a", "b"]);
  });

  it("comes back when nobody takes it, later and as a copy", async () => {
    const client = await open();
    const sent = message(RPC_EXCHANGE, "greeter", "hello", { correlationId: "1" });
    client.connection.send(sent);
    assert.equal(client.returns.length, 0);
    (sent.body as Uint8Array)[0] = 0;
    await until(() => client.returns.length === 1);
    assert.equal(text(client.returns[0]!), "hello");
    assert.equal(client.returns[0]!.properties.correlationId, "1");
  });

  it("to a missing exchange resets those under way, and the connection goes on", async () => {
    await serve(answer);
    const client = await open();
    client.connection.send(message("nowhere", "greeter"));
    assert.equal(client.resets.length, 0);
    await until(() => client.resets.length === 1);
    assert.ok(failsWith("NOT_FOUND", /no exchange 'nowhere'/)(client.resets[0]));
    request(client, "hello");
    await until(() => client.replies.length === 1);
  });

  it("of a connection that is gone has its answer dropped, and not returned", async () => {
    const service = await serve(() => {});
    const client = await open();
    request(client, "hello");
    await until(() => service.deliveries.length === 1);
    await client.connection.close();
    answer(service.deliveries[0]!);
    await (await open()).connection.publish(message("", client.connection.replyTo), true);
    await quiet();
    assert.equal(client.replies.length, 0);
  });

  it("has no answer after its connection was closed, even one on its way", async () => {
    const [client, other] = [await open(), await open()];
    other.connection.send(message("", client.connection.replyTo));
    await client.connection.close();
    await quiet();
    assert.equal(client.replies.length, 0);
  });

  it("gets no answer when the queue for answers was deleted, and the next one does", async () => {
    await serve(answer);
    const client = await open({ replyQueue: "answers" });
    assert.equal(broker.deleteQueue("answers"), true);
    await until(() => client.resets.length === 1);
    request(client, "hello");
    await until(() => client.replies.length === 1);
    assert.equal(client.closes.length, 0);
  });

  it("over the size limit is not sent, and one over the receiver's comes without its body", async () => {
    const service = await serve(() => {});
    const large = await open({ maxMessageSize: 3_000 });
    request(large, "x".repeat(2_000));
    await until(() => service.deliveries.length === 1);
    assert.equal(service.deliveries[0]!.oversize, 2_000);
    assert.equal(service.deliveries[0]!.body.length, 0);
    const tooLarge = failsWith("MESSAGE_TOO_LARGE", /1001 bytes .* 1000 bytes/, NuropbMessageError);
    const small = await open();
    assert.throws(() => request(small, "x".repeat(1_001)), tooLarge);
    assert.throws(() => service.deliveries[0]!.reply(message("", "", "x".repeat(1_001))), tooLarge);
    await assert.rejects(small.connection.publish(message("", "", "x".repeat(1_001)), false), tooLarge);
  });
});

describe("traffic without a pause over an embedded broker", () => {
  useBroker();

  /** Calls what settles in microtasks alone, until a timer has had its turn. */
  async function untilTurn(call: () => Promise<unknown>): Promise<void> {
    let turned = false;
    setTimeout(() => turned = true);
    while (!turned) await call();
  }

  it("of requests and answers lets the event loop turn", async () => {
    let settled: () => void = () => {};
    const connection = await openMemory({ name, declare: true, maxMessageSize: 10 }, {
      onreply: () => settled(),
      onreturn: () => settled(),
      onreset: () => {},
      onrefused: () => {},
      onflow: () => {},
      onpipelined: () => {},
      onclose: () => {},
    }, new AbortController().signal);
    const request = () => {
      const outcome = new Promise<void>((resolve) => settled = resolve);
      connection.send(message(RPC_EXCHANGE, "greeter", "", { replyTo: connection.replyTo }));
      return outcome;
    };
    await untilTurn(request);
    await take(await open(), serviceQueue("greeter"), {
      topology: serviceTopology("greeter", [], { queueType: "classic" }),
      ondelivery: (delivery) => {
        delivery.reply(message("", delivery.properties.replyTo!));
        delivery.ack();
      },
    });
    await untilTurn(request);
    await connection.close();
  });

  it("of confirmed messages lets the event loop turn, and consumers take them", async () => {
    const client = await open();
    const taker = await take(client, "q", {
      topology: [queue("q")],
      ondelivery: (delivery) => delivery.ack(),
    });
    let published = 0;
    await untilTurn(() => {
      published++;
      return client.connection.publish(message("", "q"), true);
    });
    await until(() => taker.deliveries.length === published);
    await untilTurn(() => client.connection.publish(message(EVENTS_EXCHANGE, "x"), false));
  });
});

describe("publishing to an embedded broker", () => {
  useBroker();

  it("is confirmed, whether or not a queue takes it", async () => {
    const { connection } = await open();
    await connection.publish(message(EVENTS_EXCHANGE, "orders.created"), false);
  });

  it("is refused as not delivered when mandatory and no queue takes it", async () => {
    const { connection } = await open();
    await assert.rejects(
      connection.publish(message(RPC_EXCHANGE, "nobody"), true),
      failsWith("NOT_DELIVERED", /'nobody'/, NuropbNotDeliveredError),
    );
    await assert.rejects(connection.publish(message("", "no-queue"), true), NuropbNotDeliveredError);
  });

  it("is refused to a missing exchange, and with an expiration that is no number", async () => {
    const { connection } = await open();
    await assert.rejects(
      connection.publish(message("nowhere", "x"), false),
      failsWith("NOT_FOUND", /NOT_FOUND - no exchange 'nowhere' in vhost/),
    );
    await assert.rejects(
      connection.publish(message("", "x", "", { expiration: "1.5" }), false),
      failsWith("PRECONDITION_FAILED", /invalid expiration '1.5'/),
    );
  });

  it("reaches each queue of an exchange once, as the exchange's type says", async () => {
    const client = await open();
    const topics: Record<string, string[]> = {
      all: ["#", "orders.*", "orders.created"],
      created: ["*.created"],
      orders: ["orders.#"],
      people: ["people.#"],
    };
    for (const [queueName, patterns] of Object.entries(topics)) {
      await client.connection.declare([
        ...meshTopology,
        queue(queueName),
        { kind: "binding", queue: queueName, exchange: DEAD_LETTER_EXCHANGE, routingKey: "ignored" },
        { kind: "binding", queue: queueName, exchange: RPC_EXCHANGE, routingKey: queueName },
        ...patterns.map((routingKey): Declaration => (
          { kind: "binding", queue: queueName, exchange: EVENTS_EXCHANGE, routingKey }
        )),
      ]);
    }
    const ready = () => broker.queues().filter(({ name }) => name in topics).map(({ ready }) => ready);
    await client.connection.publish(message(EVENTS_EXCHANGE, "orders.created"), false);
    assert.deepEqual(ready(), [1, 1, 1, 0]);
    await client.connection.publish(message(EVENTS_EXCHANGE, "people"), false);
    assert.deepEqual(ready(), [2, 1, 1, 1]);
    await client.connection.publish(message(RPC_EXCHANGE, "people"), false);
    assert.deepEqual(ready(), [2, 1, 1, 2]);
    await client.connection.publish(message(DEAD_LETTER_EXCHANGE, "whatever"), false);
    assert.deepEqual(ready(), [3, 2, 2, 3]);
    await client.connection.publish(message("", "created"), false);
    assert.deepEqual(ready(), [3, 3, 2, 3]);
  });

  it("gives every queue a message of its own", async () => {
    const client = await open();
    const takers: Taker[] = [];
    for (const queueName of ["one", "two"]) {
      takers.push(await take(client, queueName, { topology: subscriptionTopology(queueName, ["#"]) }));
    }
    await client.connection.publish(
      message(EVENTS_EXCHANGE, "x", "abc", { headers: { list: ["a"] } }),
      false,
    );
    await until(() => takers.every(({ deliveries }) => deliveries.length === 1));
    const [one, two] = takers.map(({ deliveries }) => deliveries[0]!);
    (one!.body as Uint8Array)[0] = 0;
    (one!.properties.headers["list"] as string[]).push("b");
    assert.equal(text(two!), "abc");
    assert.deepEqual(two!.properties.headers, { list: ["a"] });
  });
});

describe("declaring on an embedded broker", () => {
  useBroker();

  it("again, with the same settings, changes nothing", async () => {
    const client = await open();
    await client.connection.declare(serviceTopology("greeter", ["a.*"], { queueType: "classic" }));
    await fill(client, serviceQueue("greeter"), "kept");
    await client.connection.declare(serviceTopology("greeter", ["a.*"], { queueType: "classic" }));
    assert.equal(info(serviceQueue("greeter"))?.ready, 1);
  });

  it("again, with other settings, is refused and says which", async () => {
    const { connection } = await open();
    await connection.declare([queue("q", { arguments: { "x-dead-letter-exchange": "dlx" } })]);
    const refused = (declaration: Declaration, pattern: RegExp) =>
      assert.rejects(connection.declare([declaration]), failsWith("PRECONDITION_FAILED", pattern));
    await refused(
      queue("q", { durable: false }),
      /PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '[^']+': received 'false' but current is 'true'/,
    );
    await refused(queue("q", { autoDelete: true }), /inequivalent arg 'auto_delete'/);
    await refused(
      queue("q"),
      /inequivalent arg 'x-dead-letter-exchange' .* received none but current is 'dlx'/,
    );
    await refused(queue("q", { exclusive: true }), /RESOURCE_LOCKED .* locked queue 'q'/);
    await refused(
      { kind: "exchange", name: RPC_EXCHANGE, type: "fanout" },
      /inequivalent arg 'type' for exchange 'nuropb-rpc-exchange' .* received 'fanout' but current is 'direct'/,
    );
  });

  it("stops at the first refusal", async () => {
    const { connection } = await open();
    const missing: Declaration = { kind: "binding", queue: "q", exchange: "nowhere", routingKey: "" };
    await assert.rejects(
      connection.declare([queue("q"), missing, queue("r")]),
      failsWith("NOT_FOUND", /no exchange 'nowhere'/),
    );
    assert.deepEqual(broker.queues().map(({ name }) => name), ["q"]);
  });

  it("a binding of a missing queue is refused", async () => {
    const { connection } = await open();
    const binding: Declaration = { kind: "binding", queue: "q", exchange: RPC_EXCHANGE, routingKey: "" };
    await assert.rejects(connection.declare([binding]), failsWith("NOT_FOUND", /no queue 'q'/));
  });

  it("keeps an exclusive queue to its connection, and deletes it with it", async () => {
    const [owner, other] = [await open(), await open()];
    await owner.connection.declare(subscriptionTopology("mine", ["#"]));
    await owner.connection.declare([privateQueue("mine")]);
    const locked = failsWith("PRECONDITION_FAILED", /RESOURCE_LOCKED .* 'mine'/);
    await assert.rejects(other.connection.declare([privateQueue("mine")]), locked);
    await assert.rejects(other.connection.declare(subscriptionTopology("mine", ["a"])), locked);
    await assert.rejects(take(other, "mine"), locked);
    await fill(other, "mine", "anyone may send");
    await owner.connection.close();
    assert.deepEqual(broker.queues(), []);
    await other.connection.publish(message(EVENTS_EXCHANGE, "x"), false);
    await assert.rejects(
      other.connection.publish(message(EVENTS_EXCHANGE, "x"), true),
      NuropbNotDeliveredError,
    );
  });

  it("keeps what is durable when the last connection has closed", async () => {
    const first = await open();
    await first.connection.declare([...meshTopology, queue("kept")]);
    await first.connection.publish(message("", "kept", "a", { persistent: true }), true);
    await first.connection.close();
    const second = await open({ declare: false });
    const taker = await take(second, "kept");
    await until(() => taker.deliveries.length === 1);
    assert.equal(taker.deliveries[0]!.properties.persistent, true);
    await second.connection.publish(message(DEAD_LETTER_EXCHANGE, "x"), true);
  });
});

describe("consuming from an embedded broker", () => {
  useBroker();

  it("a missing queue is refused", async () => {
    await assert.rejects(take(await open(), "none"), failsWith("NOT_FOUND", /NOT_FOUND - no queue 'none'/));
  });

  it("brings messages in order, also many of them", async () => {
    const client = await open();
    const total = 5_000;
    await client.connection.declare([queue("q")]);
    for (let index = 0; index < total; index++) client.connection.send(message("", "q", String(index)));
    const taker = await take(client, "q", { ondelivery: (delivery) => delivery.ack() });
    for (let index = total; index < 2 * total; index++) {
      client.connection.send(message("", "q", String(index)));
    }
    await until(() => taker.deliveries.length === 2 * total);
    assert.ok(taker.deliveries.every((delivery, index) => text(delivery) === String(index)));
    assert.deepEqual(info("q"), { name: "q", ready: 0, unacked: 0, consumers: 1 });
  });

  it("stops at the prefetch until a message is settled", async () => {
    const client = await open();
    const taker = await take(client, "q", { topology: [queue("q")], prefetch: 2 });
    await fill(client, "q", "a", "b", "c", "d");
    await quiet();
    assert.deepEqual(texts(taker.deliveries), ["a", "b"]);
    assert.deepEqual(info("q"), { name: "q", ready: 2, unacked: 2, consumers: 1 });
    taker.deliveries[1]!.ack();
    assert.equal(taker.deliveries.length, 2, "not in the call stack of ack");
    await quiet();
    assert.deepEqual(texts(taker.deliveries), ["a", "b", "c"]);
    taker.deliveries[1]!.ack();
    await quiet();
    assert.equal(taker.deliveries.length, 3, "settled once only");
  });

  it("takes turns among consumers, and passes over those that are full", async () => {
    const client = await open();
    await client.connection.declare([queue("q")]);
    const takers: Taker[] = [];
    for (const prefetch of [2, 64, 64]) takers.push(await take(client, "q", { prefetch }));
    await fill(client, "q", "a", "b", "c", "d", "e", "f", "g", "h");
    await quiet();
    assert.deepEqual(takers.map(({ deliveries }) => texts(deliveries).join("")), ["ad", "beg", "cfh"]);
    await takers[1]!.consumer.cancel();
    await fill(client, "q", "i", "j");
    await quiet();
    assert.deepEqual(takers.map(({ deliveries }) => texts(deliveries).join("")), ["ad", "beg", "cfhij"]);
  });

  it("puts what is requeued back where it was, marked as redelivered", async () => {
    const client = await open();
    const taker = await take(client, "q", { topology: [queue("q")], prefetch: 3 });
    await fill(client, "q", "a", "b", "c", "d");
    await quiet();
    const [a, b, c] = taker.deliveries;
    b!.requeue();
    a!.requeue();
    c!.requeue();
    await quiet();
    assert.deepEqual(texts(taker.deliveries), ["a", "b", "c", "a", "b", "c"]);
    assert.deepEqual(taker.deliveries.map(({ redelivered }) => redelivered), [
      ...[false, false, false],
      ...[true, true, true],
    ]);
    assert.equal(info("q")?.ready, 1);
  });

  it("settles a redelivered message by its own delivery alone", async () => {
    const client = await open();
    const taker = await take(client, "q", { topology: [queue("q")] });
    await fill(client, "q", "a");
    await quiet();
    const [first] = taker.deliveries;
    first!.requeue();
    await quiet();
    first!.ack();
    first!.reject();
    first!.requeue();
    await quiet();
    assert.equal(info("q")?.unacked, 1);
    taker.deliveries[1]!.ack();
    assert.equal(info("q")?.unacked, 0);
    assert.equal(taker.deliveries.length, 2);
  });

  it("gives what is unsettled to others when the consumer closes, in order", async () => {
    const client = await open();
    const first = await take(client, "q", { topology: [queue("q")], prefetch: 3 });
    await fill(client, "q", "a", "b", "c", "d");
    await quiet();
    first.deliveries[1]!.ack();
    await quiet();
    await first.consumer.close();
    first.deliveries[0]!.ack();
    first.deliveries[0]!.reply(message("", "q", "from the dead"));
    const second = await take(client, "q");
    await quiet();
    assert.deepEqual(texts(second.deliveries), ["a", "c", "d"]);
    assert.ok(second.deliveries.every(({ redelivered }) => redelivered));
    assert.equal(info("q")?.unacked, 3);
    assert.deepEqual(first.ends, []);
  });

  it("lets a cancelled consumer settle and answer what it has, and brings it no more", async () => {
    const client = await open();
    const taker = await take(client, "q", { topology: [queue("q")] });
    await fill(client, "q", "a", "b");
    await quiet();
    await taker.consumer.cancel();
    await fill(client, "q", "c");
    taker.deliveries[0]!.reply(message("", client.connection.replyTo, "answer"));
    taker.deliveries[0]!.ack();
    taker.deliveries[1]!.requeue();
    await quiet();
    assert.deepEqual(texts(client.replies), ["answer"]);
    assert.deepEqual(info("q"), { name: "q", ready: 2, unacked: 0, consumers: 0 });
    await taker.consumer.close();
    assert.equal(taker.deliveries.length, 2);
  });

  it("goes on when a handler throws in spite of its contract", async () => {
    const client = await open();
    const taker = await take(client, "q", {
      topology: [queue("q")],
      ondelivery: (delivery) => {
        if (text(delivery) === "a") throw new Error("broken");
        delivery.ack();
      },
    });
    await fill(client, "q", "a", "b");
    await quiet();
    assert.deepEqual(texts(taker.deliveries), ["a", "b"]);
    assert.equal(info("q")?.unacked, 1);
  });

  it("ends with the queue when that is deleted", async () => {
    const client = await open();
    const taker = await take(client, "q", { topology: [queue("q")], prefetch: 1 });
    await fill(client, "q", "a", "b");
    await quiet();
    assert.equal(broker.deleteQueue("q"), true);
    assert.equal(broker.deleteQueue("q"), false);
    assert.equal(taker.ends.length, 0, "not in the same call stack");
    await quiet();
    assert.equal(taker.ends.length, 1);
    assert.ok(failsWith("NOT_FOUND", /q: the queue was deleted/)(taker.ends[0]));
    taker.deliveries[0]!.requeue();
    await taker.consumer.close();
    await client.connection.declare([queue("q")]);
    assert.deepEqual(info("q"), { name: "q", ready: 0, unacked: 0, consumers: 0 });
  });

  it("is not told of a deleted queue after it was closed", async () => {
    const client = await open();
    const taker = await take(client, "q", { topology: [queue("q")] });
    broker.deleteQueue("q");
    await taker.consumer.close();
    await quiet();
    assert.deepEqual(taker.ends, []);
  });

  it("ends when it answers to a missing exchange, and its messages go back", async () => {
    const client = await open();
    const taker = await take(client, "q", { topology: [queue("q")] });
    await fill(client, "q", "a");
    await quiet();
    taker.deliveries[0]!.reply(message("nowhere", "x"));
    taker.deliveries[0]!.ack();
    await quiet();
    assert.equal(taker.ends.length, 1);
    assert.ok(failsWith("NOT_FOUND", /no exchange 'nowhere'/)(taker.ends[0]));
    assert.deepEqual(info("q"), { name: "q", ready: 1, unacked: 0, consumers: 0 });
  });

  it("deletes a queue that deletes itself with the last consumer, and not before the first", async () => {
    const client = await open();
    await client.connection.declare([queue("q", { autoDelete: true })]);
    await fill(client, "q", "a");
    const [first, second] = [await take(client, "q"), await take(client, "q")];
    await first.consumer.close();
    assert.equal(info("q")?.consumers, 1);
    await second.consumer.cancel();
    assert.equal(info("q"), undefined);
    await quiet();
    assert.deepEqual(second.ends, []);
  });

  it("with a consumer that gives everything back lets others work", async () => {
    const client = await open();
    const stubborn = await take(client, "q", {
      topology: [queue("q")],
      ondelivery: (delivery) => delivery.requeue(),
    });
    await fill(client, "q", "a");
    await quiet();
    await stubborn.consumer.close();
    assert.ok(stubborn.deliveries.length > 1);
    assert.equal(info("q")?.ready, 1);
  });
});

/** A queue whose dead letters come to a taker. */
async function withDeadLetters(arguments_: QueueDeclaration["arguments"] = {}): Promise<[Client, Taker]> {
  const client = await open();
  await client.connection.declare([
    ...meshTopology,
    queue("q", { arguments: { "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE, ...arguments_ } }),
    { kind: "binding", queue: "q", exchange: RPC_EXCHANGE, routingKey: "service" },
  ]);
  return [client, await take(client, DEAD_LETTER_QUEUE)];
}

describe("the dead letters of an embedded broker", () => {
  useBroker();

  it("get what is rejected, with its history", async () => {
    const [client, dead] = await withDeadLetters();
    const sent = message(RPC_EXCHANGE, "service", "a", { correlationId: "1", headers: { mine: "kept" } });
    const before = Date.now();
    await client.connection.publish(sent, true);
    const taker = await take(client, "q", { ondelivery: (delivery) => delivery.reject() });
    await until(() => dead.deliveries.length === 1);
    const [letter] = dead.deliveries;
    assert.equal(letter!.exchange, DEAD_LETTER_EXCHANGE);
    assert.equal(letter!.routingKey, "service");
    assert.equal(letter!.redelivered, false);
    assert.equal(letter!.properties.correlationId, "1");
    const { "x-death": deaths, ...headers } = letter!.properties.headers;
    assert.deepEqual(headers, {
      mine: "kept",
      "x-first-death-queue": "q",
      "x-first-death-reason": "rejected",
      "x-first-death-exchange": RPC_EXCHANGE,
    });
    const [{ time, ...death }] = deaths as [Record<string, unknown>];
    assert.deepEqual(death, {
      count: 1,
      reason: "rejected",
      queue: "q",
      exchange: RPC_EXCHANGE,
      "routing-keys": ["service"],
    });
    assert.ok(time instanceof Date && time.getTime() >= before);
    assert.deepEqual(taker.deliveries[0]!.properties.headers, { mine: "kept" });
  });

  it("count a second death of the same kind, the latest first", async () => {
    const [client, dead] = await withDeadLetters();
    await take(client, "q", { ondelivery: (delivery) => delivery.reject() });
    await fill(client, "q", "a");
    for (let death = 1; death <= 2; death++) {
      await until(() => dead.deliveries.length === death);
      const { properties, body } = dead.deliveries.at(-1)!;
      await client.connection.publish({ exchange: "", routingKey: "q", properties, body }, true);
    }
    await until(() => dead.deliveries.length === 3);
    await client.connection.declare([
      queue("other", { arguments: { "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "last" } }),
      queue("last"),
    ]);
    const { properties, body } = dead.deliveries.at(-1)!;
    await client.connection.publish({ exchange: "", routingKey: "other", properties, body }, true);
    await take(client, "other", { ondelivery: (delivery) => delivery.reject() });
    const last = await take(client, "last");
    await until(() => last.deliveries.length === 1);
    const { headers } = last.deliveries[0]!.properties;
    const deaths = headers["x-death"] as Record<string, unknown>[];
    assert.deepEqual(deaths.map(({ queue, count }) => [queue, count]), [["other", 1], ["q", 3]]);
    assert.equal(headers["x-first-death-queue"], "q");
    assert.equal(last.deliveries[0]!.routingKey, "last");
  });

  it("get nothing from a queue without them, nor through a missing exchange", async () => {
    const client = await open();
    await client.connection.declare([
      ...meshTopology,
      queue("none"),
      queue("lost", { arguments: { "x-dead-letter-exchange": "nowhere" } }),
    ]);
    await fill(client, "none", "a");
    await fill(client, "lost", "a");
    for (const queueName of ["none", "lost"]) {
      await take(client, queueName, { ondelivery: (delivery) => delivery.reject() });
    }
    await quiet();
    assert.ok(broker.queues().every(({ ready, unacked }) => ready === 0 && unacked === 0));
  });

  it("get what came back more often than the delivery limit", async () => {
    const [client, dead] = await withDeadLetters({ "x-delivery-limit": 2 });
    const taker = await take(client, "q", { ondelivery: (delivery) => delivery.requeue() });
    await fill(client, "q", "a");
    await until(() => dead.deliveries.length === 1);
    assert.equal(taker.deliveries.length, 3);
    assert.equal(dead.deliveries[0]!.properties.headers["x-first-death-reason"], "delivery_limit");
  });

  it("may come back to the queue they came from", async () => {
    const client = await open();
    await client.connection.declare([queue("q", {
      arguments: { "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q" },
    })]);
    let left = 3;
    const taker = await take(client, "q", {
      ondelivery: (delivery) => left-- > 0 ? delivery.reject() : delivery.ack(),
    });
    await fill(client, "q", "a");
    await until(() => taker.deliveries.length === 4);
    const [death] = taker.deliveries[3]!.properties.headers["x-death"] as Record<string, unknown>[];
    assert.equal(death!["count"], 3);
    assert.equal(info("q")?.unacked, 0);
  });
});

describe("expiry in an embedded broker", () => {
  useBroker();

  it("moves a message to the dead letters, where it does not expire again", async () => {
    const [client, dead] = await withDeadLetters();
    await client.connection.publish(message(RPC_EXCHANGE, "service", "a", { expiration: "5" }), true);
    await until(() => dead.deliveries.length === 1);
    const { expiration, headers } = dead.deliveries[0]!.properties;
    assert.equal(expiration, undefined);
    const [death] = headers["x-death"] as Record<string, unknown>[];
    assert.equal(death!["reason"], "expired");
    assert.equal(death!["original-expiration"], "5");
    assert.equal(info("q")?.ready, 0);
  });

  it("spares a message that a waiting consumer takes at once, however short its time", async () => {
    const [client, dead] = await withDeadLetters();
    const taker = await take(client, "q");
    client.connection.send(message("", "q", "a", { expiration: "0" }));
    const busyUntil = performance.now() + 5;
    while (performance.now() < busyUntil);
    await until(() => taker.deliveries.length === 1);
    await quiet();
    assert.equal(dead.deliveries.length, 0);
    assert.equal(taker.deliveries[0]!.properties.expiration, "0");
  });

  it("does not touch what was delivered, and finds it expired when it comes back", async () => {
    const [client, dead] = await withDeadLetters();
    const taker = await take(client, "q");
    await client.connection.publish(message("", "q", "a", { expiration: "1" }), true);
    await until(() => taker.deliveries.length === 1);
    const enough = performance.now() + 5;
    await until(() => performance.now() > enough);
    assert.equal(dead.deliveries.length, 0);
    taker.deliveries[0]!.requeue();
    await until(() => dead.deliveries.length === 1);
    assert.equal(taker.deliveries.length, 1);
  });

  it("is seen at the head of the queue only", async () => {
    const [client, dead] = await withDeadLetters();
    await fill(client, "q", "lasting");
    for (const body of ["a", "b"]) {
      await client.connection.publish(message("", "q", body, { expiration: "1" }), true);
    }
    const enough = performance.now() + 5;
    await until(() => performance.now() > enough);
    assert.equal(info("q")?.ready, 3);
    const taker = await take(client, "q", { prefetch: 1 });
    await until(() => dead.deliveries.length === 2);
    assert.deepEqual(texts(taker.deliveries), ["lasting"]);
    assert.deepEqual(texts(dead.deliveries), ["a", "b"]);
  });

  it("leaves no timer behind the last connection, and goes on with the next", async () => {
    const [client, dead] = await withDeadLetters();
    await client.connection.publish(message("", "q", "a", { expiration: "20" }), true);
    const { setTimeout: set, clearTimeout: clear } = globalThis;
    const timers = new Set<unknown>();
    const counting = {
      setTimeout: (...parameters: Parameters<typeof setTimeout>) => {
        const timer = set(...parameters);
        timers.add(timer);
        return timer;
      },
      clearTimeout: (timer?: ReturnType<typeof setTimeout>) => {
        timers.delete(timer);
        clear(timer);
      },
    };
    try {
      Object.assign(globalThis, counting);
      await client.connection.publish(message("", DEAD_LETTER_QUEUE, "b", { expiration: "60000" }), true);
      await dead.consumer.close();
      await client.connection.publish(message("", DEAD_LETTER_QUEUE, "c", { expiration: "60000" }), true);
      await Promise.resolve();
      assert.equal(timers.size, 1, "one for the queue");
      await client.connection.close();
      assert.equal(timers.size, 0);
    } finally {
      Object.assign(globalThis, { setTimeout: set, clearTimeout: clear });
    }
    const enough = performance.now() + 25;
    await until(() => performance.now() > enough);
    assert.equal(info("q")?.ready, 1, "nobody is there to see it expire");
    const after = await take(await open(), DEAD_LETTER_QUEUE);
    await until(() => after.deliveries.length === 3);
    assert.equal(info("q")?.ready, 0);
  });
});

describe("the end of a connection to an embedded broker", () => {
  useBroker();

  it("is told once, without an error after close", async () => {
    const client = await open();
    const closing = client.connection.close();
    assert.equal(client.closes.length, 0);
    await closing;
    await client.connection.close();
    assert.deepEqual(client.closes, [undefined]);
    broker.disconnectAll("too late");
    await quiet();
    assert.equal(client.closes.length, 1);
  });

  it("refuses everything after close", async () => {
    const { connection } = await open();
    const pending = connection.publish(message(EVENTS_EXCHANGE, "x"), false);
    await connection.close();
    await pending;
    const closed = failsWith("CLOSED", /was closed/);
    assert.throws(() => connection.send(message(RPC_EXCHANGE, "x")), closed);
    await assert.rejects(connection.publish(message(EVENTS_EXCHANGE, "x"), false), closed);
    await assert.rejects(connection.declare([]), closed);
    await assert.rejects(
      connection.consume({ queue: "q", topology: [], prefetch: 1 }, {
        ondelivery: () => {},
        onend: () => {},
      }),
      closed,
    );
  });

  it("ends its consumers without a word, and gives back what they had", async () => {
    const [client, other] = [await open(), await open()];
    const taker = await take(client, "q", { topology: [queue("q")] });
    await fill(client, "q", "a", "b");
    await quiet();
    await client.connection.close();
    taker.deliveries[0]!.ack();
    const next = await take(other, "q");
    await quiet();
    assert.deepEqual(texts(next.deliveries), ["a", "b"]);
    assert.deepEqual(next.deliveries.map(({ redelivered }) => redelivered), [true, true]);
    assert.deepEqual(taker.ends, []);
  });

  it("by a broken link is told to everyone, and a new connection works", async () => {
    const lost = [await open(), await open({ replyQueue: "answers" })];
    const taker = await take(lost[0]!, "q", { topology: [queue("q")] });
    await fill(lost[1]!, "q", "a");
    await until(() => taker.deliveries.length === 1);
    const pending = lost[0]!.connection.publish(message("", "q", "b"), true);
    broker.disconnectAll("cable pulled");
    const gone = failsWith("CONNECTION_LOST", /cable pulled/);
    assert.throws(() => lost[0]!.connection.send(message("", "q")), gone);
    await assert.rejects(pending, gone);
    await assert.rejects(lost[1]!.connection.publish(message("", "q"), true), gone);
    await until(() => lost.every(({ closes }) => closes.length === 1));
    for (const { closes } of lost) assert.ok(gone(closes[0]));
    for (const { connection } of lost) await connection.close();
    assert.deepEqual(taker.ends, []);
    assert.deepEqual(lost.map(({ closes }) => closes.length), [1, 1]);
    const again = await take(await open({ replyQueue: "answers" }), "q");
    await until(() => again.deliveries.length === 2);
    assert.deepEqual(again.deliveries.map(({ redelivered }) => redelivered), [true, false]);
  });
});
