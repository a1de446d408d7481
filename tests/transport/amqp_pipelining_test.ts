import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect, NuropbTransportError } from "@nuropb/mesh";
import type { Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { AmqpSocket } from "../../src/transport/amqp_socket.ts";
import {
  FakeBroker,
  inMemory,
  method,
  noticeRejections,
  plain,
  settings,
  soon,
  until,
} from "./fake_broker.ts";
import type { Hook, StepName } from "./fake_broker.ts";

/** A mesh that is only just connecting, with a request that goes out with the handshake. */
async function early(
  url: string | string[],
  idempotent = false,
): Promise<{ mesh: Mesh; answer: Promise<unknown> }> {
  const mesh = await connect(url, { lazy: true, connectTimeout: 2_000 });
  const answer = mesh.request("shop", "order", {}, { encrypted: false, idempotent });
  answer.catch(() => {});
  return { mesh, answer };
}

/** The ids of the requests that were sent to a broker, whether it read them or not. */
function requestsOf(broker: FakeBroker): string[] {
  const bytes = broker.sessions.map(({ chunks }) => Buffer.concat(chunks).toString("latin1")).join("");
  return [...bytes.matchAll(/"correlation_id":"(\w+)"/g)].map(([, id]) => id!);
}

/** A step that is done once the first request is there. */
function afterRequest(broker: FakeBroker, hook: Hook): Hook {
  return async (step, next) => {
    await until(() => requestsOf(broker).length === 1);
    hook(step, next);
  };
}

const goOn: Hook = (_step, next) => next();

describe("a pipelined handshake", () => {
  noticeRejections();

  it("goes out as a whole before the broker has said a word, and the request with it", async () => {
    await using broker = await FakeBroker.start();
    let greet = () => {};
    broker.once("header", (_step, next) => greet = next);
    const { mesh, answer } = await early(broker.url);
    await until(() => broker.sessions.length === 1 && broker.session.all("header").length === 1);
    // What is held back here was sent already: the broker has all of it when it begins to answer.
    await until(() => requestsOf(broker).length === 1);
    assert.equal(broker.session.published.length, 0);
    greet();
    assert.equal(await soon(answer), "pong");
    assert.equal(requestsOf(broker).length, 1);
    assert.deepEqual(
      broker.session.received.map(({ name }) => name).filter((name) => name.startsWith("connection.")),
      ["connection.start-ok", "connection.tune-ok", "connection.open"],
    );
    await mesh.close();
  });

  it("says goodbye to the broker if it is closed after its first answer, before all is set up", async () => {
    await using broker = await FakeBroker.start();
    broker.on("exchange.declare", () => {});
    const { mesh, answer } = await early(broker.url);
    assert.equal(await soon(answer), "pong");
    await soon(mesh.close());
    assert.equal(broker.session.all("connection.close").length, 1);
  });

  it("tells which library connects", async () => {
    await using broker = await FakeBroker.start();
    await using _mesh = await connect(broker.url);
    const [startOk] = broker.session.all("connection.start-ok");
    assert.ok(Buffer.from(startOk!.fields.properties as Uint8Array).includes("@nuropb/mesh"));
  });

  it("lets the account prove itself by its certificate, with no word of a password", async () => {
    for (const pipelined of [true, false]) {
      const broker = new FakeBroker();
      const { socket, session } = inMemory(broker);
      const amqp = new AmqpSocket(socket, { ...settings, mechanism: "EXTERNAL" });
      await amqp.connect(pipelined);
      const [startOk] = session.all("connection.start-ok");
      assert.equal(startOk?.fields.mechanism, "EXTERNAL");
      assert.equal(startOk?.fields.response, "");
      assert.ok(!Buffer.concat(session.chunks).includes("sesame"));
      await amqp.shutdown();
      assert.deepEqual(broker.faults, []);
    }
  });

  it("takes a request of the same turn, one of a later one, and one of after it", async () => {
    await using broker = await FakeBroker.start();
    const { mesh, answer } = await early(broker.url);
    const later = new Promise((resolve) => setTimeout(resolve)).then(() =>
      mesh.request("shop", "order", {}, plain)
    );
    assert.deepEqual(await soon(Promise.all([answer, later])), ["pong", "pong"]);
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    assert.equal(requestsOf(broker).length, 3);
    assert.equal(broker.sessions.length, 1);
    await mesh.close();
  });

  it("takes nothing that waits for a connection that was lost: that goes out once the next one is open", async () => {
    await using broker = await FakeBroker.start();
    await using mesh = await connect(broker.url);
    broker.session.drop();
    await until(() => mesh.status.state === "waiting");
    const answer = mesh.request("shop", "order", {}, plain);
    let before = -1;
    broker.once("basic.consume", (_step, next) => {
      before = requestsOf(broker).length;
      next();
    });
    assert.equal(await soon(answer), "pong");
    assert.equal(before, 0);
    assert.equal(requestsOf(broker).length, 1);
  });

  it("sends a request whose ttl ends or whose signal aborts in it to nobody, or once", async () => {
    await using broker = await FakeBroker.start();
    let greet = () => {};
    broker.once("header", (_step, next) => greet = next);
    const mesh = await connect(broker.url, { lazy: true });
    const controller = new AbortController();
    const aborted = mesh.request("shop", "order", { a: 1 }, { ...plain, signal: controller.signal });
    const expired = mesh.request("shop", "order", { b: 1 }, { ...plain, ttl: 20 });
    controller.abort(new Error("enough"));
    await assert.rejects(aborted, { message: "enough" });
    await assert.rejects(expired, { code: "TIMEOUT" });
    greet();
    await mesh.ready();
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
    const bodies = broker.session.published.map(({ body }) => String(body));
    assert.ok(!bodies.some((body) => body.includes(`"a":1`)));
    assert.ok(bodies.filter((body) => body.includes(`"b":1`)).length <= 1);
    await mesh.close();
  });
});

describe("a broker with lower limits than the pipelined handshake asks for", () => {
  noticeRejections();

  for (const tune of [{ channelMax: 100 }, { frameMax: 8_192 }]) {
    it(`gets another handshake, step by step, and the request once: ${JSON.stringify(tune)}`, async () => {
      await using broker = await FakeBroker.start(tune);
      broker.once("connection.start-ok", afterRequest(broker, goOn));
      const { mesh, answer } = await early(broker.url);
      assert.equal(await soon(answer), "pong");
      assert.equal(broker.sessions.length, 2);
      assert.deepEqual(broker.sessions.map(({ published }) => published.length), [0, 1]);
      assert.equal(mesh.status.state, "open");
      await mesh.close();
    });
  }

  it("is remembered: the next connection is shaken hands with step by step at once", async () => {
    await using broker = await FakeBroker.start({ frameMax: 8_192 });
    await using mesh = await connect(broker.url);
    assert.equal(broker.sessions.length, 2);
    broker.session.drop();
    await until(() => mesh.status.state === "waiting");
    assert.equal(await soon(mesh.request("shop", "order", {}, plain)), "pong");
    assert.equal(broker.sessions.length, 3);
  });
});

describe("a broker that minds a pipelined handshake", () => {
  noticeRejections();

  const closes: Hook = ({ session }) =>
    session.send(method(0, "connection.close", { code: 503, text: "COMMAND_INVALID - out of order" }));
  const ways: [what: string, hook: Hook, taken: boolean][] = [
    ["closes the connection", closes, false],
    ["drops it", ({ session }) => session.drop(), true],
  ];
  for (const [what, hook, taken] of ways) {
    for (const step of ["header", "connection.start-ok", "connection.tune-ok"] as const) {
      it(`and ${what} is taken step by step: ${step}`, async () => {
        await using broker = await FakeBroker.start();
        broker.once(step, hook);
        await using mesh = await connect(broker.url);
        assert.equal(broker.sessions.length, 2);
        assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
        broker.session.drop();
        await until(() => mesh.status.state === "waiting");
        await soon(mesh.ready());
        assert.equal(broker.sessions.length, 3);
      });
    }

    it(`and ${what} ${taken ? "may have" : "surely has not"} taken the request`, async () => {
      await using broker = await FakeBroker.start();
      broker.once("connection.start-ok", afterRequest(broker, hook));
      const { mesh, answer } = await early(broker.url);
      if (taken) await assert.rejects(soon(answer), { code: "CONNECTION_LOST", message: /may have run/ });
      else assert.equal(await soon(answer), "pong");
      await mesh.ready();
      assert.equal(requestsOf(broker).length, taken ? 1 : 2);
      await mesh.close();
    });

    it(`and ${what} gets an idempotent request again, under the same id`, async () => {
      await using broker = await FakeBroker.start();
      broker.once("connection.start-ok", afterRequest(broker, hook));
      const { mesh, answer } = await early(broker.url, true);
      assert.equal(await soon(answer), "pong");
      const [first, second, ...more] = requestsOf(broker);
      assert.equal(first, second);
      assert.deepEqual(more, []);
      await mesh.close();
    });
  }
});

describe("a broker that refuses for good", () => {
  noticeRejections();

  const refusals: [step: StepName, code: number, text: string, expected: string][] = [
    ["connection.start-ok", 403, "ACCESS_REFUSED - Login was refused", "ACCESS_REFUSED"],
    ["connection.open", 530, "NOT_ALLOWED - vhost mesh not found", "VHOST_NOT_FOUND"],
  ];
  for (const [step, code, text, expected] of refusals) {
    const refuse: Hook = ({ session }) => session.send(method(0, "connection.close", { code, text }));

    it(`is asked once, and fails what waits with its own error: ${expected}`, async () => {
      await using broker = await FakeBroker.start();
      broker.on(step, afterRequest(broker, refuse));
      const { mesh, answer } = await early(broker.url);
      await assert.rejects(soon(answer), (error: NuropbTransportError) => {
        assert.equal(error.code, expected);
        assert.ok(error.message.includes(text));
        return true;
      });
      assert.equal(broker.sessions.length, 1);
      assert.equal(mesh.status.state, "closed");
    });

    it(`does not keep the request from the next broker: ${expected}`, async () => {
      await using broker = await FakeBroker.start();
      await using next = await FakeBroker.start();
      broker.on(step, afterRequest(broker, refuse));
      const { mesh, answer } = await early([broker.url, next.url]);
      assert.equal(await soon(answer), "pong");
      assert.deepEqual(requestsOf(broker), requestsOf(next));
      await mesh.close();
    });

    it(`does not keep the request from the next attempt: ${expected}`, async () => {
      await using broker = await FakeBroker.start();
      await using mesh = await connect(broker.url);
      broker.once(step, refuse);
      broker.session.drop();
      await until(() => mesh.status.state === "waiting");
      assert.equal(await soon(mesh.request("shop", "order", {}, plain)), "pong");
      assert.equal(requestsOf(broker).length, 1);
    });
  }

  it("is asked once when what it says is no AMQP", async () => {
    await using broker = await FakeBroker.start();
    broker.on(
      "header",
      ({ session }) => session.send(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n")),
    );
    const { answer } = await early(broker.url);
    await assert.rejects(soon(answer), { code: "CONNECT_FAILED", message: /not AMQP/ });
    assert.equal(broker.sessions.length, 1);
  });

  it("is asked once when it is silent", async () => {
    await using broker = await FakeBroker.start();
    broker.on("header", () => {});
    const mesh = await connect(broker.url, { lazy: true, connectTimeout: 100 });
    await assert.rejects(soon(mesh.request("shop", "order", {}, plain)), { code: "CONNECT_FAILED" });
    assert.equal(broker.sessions.length, 1);
    await until(() => broker.session.closed);
  });
});

describe("a request that went out with a handshake that then failed", () => {
  noticeRejections();

  /** Has a broker hold back that the channel is open, until it has taken the request and then does something. */
  function takenThen(broker: FakeBroker, lose: Hook): void {
    broker.once("basic.consume", () => {});
    broker.once("basic.publish", lose);
  }

  const drop: Hook = ({ session }) => session.drop();
  const refuse: Hook = ({ session, channel }) =>
    session.send(method(channel, "channel.close", { code: 403, text: "ACCESS_REFUSED - reply" }));

  for (
    const [what, lose, code] of [["drops", drop, "CONNECTION_LOST"], [
      "refuses",
      refuse,
      "ACCESS_REFUSED",
    ]] as const
  ) {
    it(`may have run, which its caller learns at once, from a broker that ${what} then`, async () => {
      await using broker = await FakeBroker.start();
      await using next = await FakeBroker.start();
      takenThen(broker, lose);
      const { mesh, answer } = await early([broker.url, next.url]);
      await assert.rejects(soon(answer), { code, message: /may have run/ });
      await soon(mesh.ready());
      assert.deepEqual([requestsOf(broker).length, requestsOf(next).length], [1, 0]);
      await mesh.close();
    });
  }

  it("is sent again when it is idempotent and the connection dropped", async () => {
    await using broker = await FakeBroker.start();
    await using next = await FakeBroker.start();
    takenThen(broker, drop);
    const { mesh, answer } = await early([broker.url, next.url], true);
    assert.equal(await soon(answer), "pong");
    assert.deepEqual(requestsOf(broker), requestsOf(next));
    await mesh.close();
  });
});
