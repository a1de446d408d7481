import assert from "node:assert/strict";
import { serve } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import type { Message } from "../../src/message.ts";
import { AmqpConnection } from "../../src/transport/amqp_connection.ts";
import { AmqpSocket } from "../../src/transport/amqp_socket.ts";
import type { Delivery } from "../../src/transport/transport.ts";
import { listen } from "../conformance/listener.ts";
import { FakeBroker, inMemory, method, noticeRejections, nuropb, settings, until } from "./fake_broker.ts";

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
