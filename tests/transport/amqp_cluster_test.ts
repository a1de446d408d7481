import assert from "node:assert/strict";
import { connect, serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import type { Message } from "../../src/message.ts";
import { AmqpConnection } from "../../src/transport/amqp_connection.ts";
import { AmqpSocket } from "../../src/transport/amqp_socket.ts";
import type { Delivery } from "../../src/transport/transport.ts";
import { listen } from "../conformance/listener.ts";
import {
  content,
  FakeBroker,
  inMemory,
  method,
  noticeRejections,
  nuropb,
  plain,
  settings,
  soon,
  until,
} from "./fake_broker.ts";
import type { Step } from "./fake_broker.ts";

/** A request that comes a second time, from a caller with a queue of its own for answers. */
const replyTo = "nuropb-mesh-client-ann-rq";
function askAgain(broker: FakeBroker): void {
  const { properties, body } = nuropb("request", { service: "shop", method: "order", params: {} });
  broker.session.deliver("nuropb-shop-sq", { properties: { ...properties, replyTo }, body: body! }, {
    redelivered: 1,
  });
}

describe("a service of a cluster that is asked a second time", () => {
  noticeRejections();

  /** Has the broker answer the question whether the caller's queue is there; the service acks then. */
  async function asked(code: number, text: string): Promise<{ answers: string[]; questions: number }> {
    await using broker = await FakeBroker.start();
    await using _service = await serve({ order: () => "done" }, {
      url: [broker.url, broker.url],
      name: "shop",
    });
    const [session] = broker.sessions;
    broker.on("queue.declare", ({ session, channel, fields }, next) => {
      if (fields.queue !== replyTo) return next();
      session.send(method(channel, "channel.close", { code, text }));
    });
    askAgain(broker);
    await until(() => session!.acked.length === 1);
    const questions = broker.sessions.slice(1);
    await until(() => questions.every(({ closed }) => closed));
    return { answers: session!.published.map(({ routingKey }) => routingKey), questions: questions.length };
  }

  it("answers a caller whose queue is locked, since that is there", async () => {
    const locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue";
    assert.deepEqual(await asked(405, locked), { answers: [replyTo], questions: 1 });
  });

  it("answers nobody when there is no such queue any more", async () => {
    assert.deepEqual(await asked(404, "NOT_FOUND - no queue"), { answers: [], questions: 1 });
  });

  it("does not wait for ever for a broker that takes the question's connection and says nothing", async () => {
    const broker = new FakeBroker();
    const silent = await listen();
    const options = {
      ...settings,
      methodTimeout: 200,
      // It waits for TLS.
      address: { host: "127.0.0.1", port: silent.port, tls: {} },
      declare: false,
      handshake: { pipelined: false },
      isCluster: true,
    };
    const ignore = () => {};
    const handlers = {
      onreply: ignore,
      onreturn: ignore,
      onreset: ignore,
      onclose: ignore,
      onrefused: ignore,
      onflow: ignore,
      onpipelined: ignore,
    };
    const { socket, session } = inMemory(broker);
    const connection = new AmqpConnection(new AmqpSocket(socket, options), options, handlers);
    await connection.open(false, false);
    const answer: Message = {
      exchange: "",
      routingKey: replyTo,
      properties: { headers: {} },
      body: new Uint8Array(),
    };
    const ondelivery = (delivery: Delivery) => {
      delivery.reply(answer);
      delivery.ack();
    };
    await connection.consume({ queue: "nuropb-shop-sq", topology: [], prefetch: 1 }, {
      ondelivery,
      onend: ignore,
    });
    askAgain(broker);
    await until(() => session.acked.length === 1);
    assert.deepEqual(session.published, []);
    assert.equal(silent.connections.opened, 1);
    await connection.close();
    await silent.close();
  });
});

describe("a request to a cluster that the broker refuses", () => {
  noticeRejections();

  const refuse = ({ session, channel, message: { deliveryTag } }: Step) =>
    session.send(method(channel, "basic.nack", { deliveryTag }));

  /** Answers a request on the channel that it came in on, where alone a broker has its caller. */
  function answer({ session, channel, message }: Step, result: unknown): void {
    const { correlationId } = message.properties;
    const response = nuropb("response", { correlation_id: correlationId, result, error: null });
    const latest = session.received.findLast((method) =>
      method.channel === channel && method.name.startsWith("channel.")
    );
    assert.equal(latest?.name, "channel.open", "The channel that the answer was to come in on is closed");
    session.send(
      method(channel, "basic.deliver", { tag: "nuropb", deliveryTag: 1 }),
      content(channel, response),
    );
  }

  for (const replies of ["direct", "queue"] as const) {
    it(`is sent again over another channel, and harms no other request: ${replies} replies`, async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect([broker.url, broker.url], { replies });
      const steps: Step[] = [];
      broker.on("basic.publish", (step) => {
        const { session, channel, message: { routingKey, deliveryTag } } = step;
        steps.push(step);
        if (routingKey === "full" && steps.length === 2) return refuse(step);
        session.send(method(channel, "basic.ack", { deliveryTag }));
        if (routingKey === "full") answer(step, "taken");
      });
      const slow = mesh.request("slow", "order", {}, plain);
      assert.equal(await mesh.request("full", "order", {}, plain), "taken");
      const [first, , third] = steps;
      assert.notEqual(third!.channel, first!.channel);
      answer(first!, "late");
      assert.equal(await soon(slow), "late");
      assert.equal(broker.sessions.length, 1);
      const readers = broker.session.all("basic.consume").length;
      assert.equal(readers, replies === "queue" ? 1 : 2);
    });
  }

  it("over and over is tried less and less often, while others go on", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect([broker.url, broker.url]);
    broker.on("basic.publish", (step, next) => step.message.routingKey === "full" ? refuse(step) : next());
    const full = mesh.request("full", "order", {}, { ...plain, ttl: 2_500 });
    let done = false;
    const refused = assert.rejects(full, { code: "TIMEOUT" }).finally(() => done = true);
    while (!done) {
      assert.equal(await mesh.request("shop", "order", {}, { ...plain, ttl: 100 }), "pong");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await refused;
    const tries = broker.session.published.filter(({ routingKey }) => routingKey === "full").length;
    // At once, and after 0.2, 0.6, 1.4 and 2.4 s.
    assert.ok(tries >= 4 && tries <= 5, `${tries} times`);
    // The one that requests leave on, the one before it, and none of those that no answer can come in on any more.
    const [opened, closed] = (["channel.open", "channel.close"] as const).map((name) =>
      broker.session.all(name)
    );
    assert.ok(opened!.length - closed!.length <= 2, `${opened!.length} opened, ${closed!.length} closed`);
    assert.equal(broker.sessions.length, 1);
  });
});
