import assert from "node:assert/strict";
import { connect, NuropbTransportError } from "@nuropb/mesh";
import type { NuropbErrorCode } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import {
  FakeBroker,
  method,
  noticeRejections,
  plain,
  showsNoPassword,
  together,
  until,
} from "./fake_broker.ts";
import type { StepName } from "./fake_broker.ts";

/** All that a client asks of a broker before it can be used. */
const steps: readonly StepName[] = [
  "header",
  "connection.start-ok",
  "connection.tune-ok",
  "connection.open",
  "channel.open",
  "exchange.declare",
  "basic.consume",
  "channel.close",
];

/** The error that connecting to a broker ends in, which shows no password. */
async function refusal(connecting: Promise<unknown>): Promise<NuropbTransportError> {
  const reason = await connecting.then(() => assert.fail("It connected"), (error: unknown) => error);
  assert.ok(reason instanceof NuropbTransportError, String(reason));
  showsNoPassword(reason);
  return reason;
}

describe("the handshake with a broker", () => {
  noticeRejections();

  it("tells who connects, and to what", async () => {
    await using broker = await FakeBroker.start();
    await using _mesh = await connect(broker.url, { name: "the shop" });
    const [startOk] = broker.session.all("connection.start-ok");
    assert.equal(startOk?.fields.mechanism, "PLAIN");
    assert.equal(startOk?.fields.response, "\0ann\0open-sesame");
    assert.ok(String(startOk?.fields.properties).includes("the shop"));
    assert.equal(broker.session.all("connection.open")[0]?.fields.vhost, "mesh");
  });

  it("takes the broker's limits when they are lower", async () => {
    await using broker = await FakeBroker.start({ channelMax: 7, frameMax: 4_096, heartbeat: 5 });
    await using _mesh = await connect(broker.url);
    const [tuneOk] = broker.session.all("connection.tune-ok");
    assert.deepEqual(tuneOk?.fields, { channelMax: 7, frameMax: 4_096, heartbeat: 5 });
  });

  it("keeps to its own limits when they are lower", async () => {
    await using broker = await FakeBroker.start({ frameMax: 2 ** 31, heartbeat: 600 });
    await using _mesh = await connect(broker.url, { heartbeat: 9_001 });
    const [tuneOk] = broker.session.all("connection.tune-ok");
    assert.deepEqual(tuneOk?.fields, { channelMax: 2_047, frameMax: 131_072, heartbeat: 10 });
  });

  it("has limits of its own where the broker says that it has none", async () => {
    await using broker = await FakeBroker.start({ channelMax: 0, frameMax: 0 });
    await using mesh = await connect(broker.url);
    const { frameMax } = broker.session.all("connection.tune-ok")[0]!.fields;
    assert.equal(frameMax, 131_072);
    await mesh.command("shop", "order", { text: "x".repeat(200_000) }, plain);
  });

  it("is refused where the broker allows frames smaller than AMQP does", async () => {
    await using broker = await FakeBroker.start({ frameMax: 8 });
    const error = await refusal(connect(broker.url));
    assert.match(error.message, /frames of 8 bytes/);
  });

  it("keeps its heartbeat where the broker does not ask for one", async () => {
    await using broker = await FakeBroker.start({ heartbeat: 0 });
    await using _mesh = await connect(broker.url, { heartbeat: 3_000 });
    assert.equal(broker.session.all("connection.tune-ok")[0]?.fields.heartbeat, 3);
  });

  it("goes on without permission to declare", async () => {
    await using broker = await FakeBroker.start();
    broker.once("exchange.declare", ({ session, channel }) => {
      session.send(method(channel, "channel.close", { code: 403, text: "ACCESS_REFUSED - configure" }));
      broker.on("exchange.declare", () => {});
    });
    await using mesh = await connect(broker.url);
    assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
  });

  it("is given up when its signal aborts, and the socket is closed", async () => {
    for (const step of steps) {
      await using broker = await FakeBroker.start();
      const controller = new AbortController();
      broker.on(step, () => controller.abort(new Error(`enough of ${step}`)));
      await assert.rejects(connect(broker.url, { signal: controller.signal }), {
        message: `enough of ${step}`,
      });
      await until(() => broker.session.closed);
    }
  });

  it("is not begun when its signal has aborted", async () => {
    await using broker = await FakeBroker.start();
    const signal = AbortSignal.abort(new Error("never mind"));
    await assert.rejects(connect(broker.url, { signal }), { message: "never mind" });
  });
});

describe("a broker that does not answer within connectTimeout", () => {
  noticeRejections();
  together(Object.fromEntries(steps.map((step) => [`fails the connection: ${step}`, async () => {
    await using broker = await FakeBroker.start();
    broker.on(step, () => {});
    // It has no answer of its own; what the client waits for is the answer to what it sends along.
    if (step === "connection.tune-ok") broker.on("connection.open", () => {});
    const error = await refusal(connect(broker.url, { connectTimeout: 700 }));
    assert.equal(error.code, "CONNECT_FAILED");
    assert.match(error.message, /700 ms/);
    await until(() => broker.session.closed);
  }])));
});

describe("a connection that drops in the handshake", () => {
  noticeRejections();

  for (const step of steps) {
    it(`fails it at once: ${step}`, async () => {
      await using broker = await FakeBroker.start();
      broker.on(step, ({ session }) => session.drop());
      const error = await refusal(connect(broker.url));
      assert.equal(error.code, "CONNECT_FAILED");
    });
  }
});

describe("a broker that refuses in the handshake", () => {
  noticeRejections();

  for (const step of steps) {
    it(`fails it at once, and is answered: ${step}`, async () => {
      await using broker = await FakeBroker.start();
      broker.on(step, ({ session }) => {
        session.send(method(0, "connection.close", { code: 541, text: "INTERNAL_ERROR - out of order" }));
      });
      const error = await refusal(connect(broker.url));
      assert.match(error.message, /INTERNAL_ERROR - out of order/);
      await until(() => broker.session.all("connection.close-ok").length === 1);
    });
  }

  const reasons: [step: StepName, code: number, text: string, expected: NuropbErrorCode][] = [
    [
      "connection.start-ok",
      403,
      "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.",
      "ACCESS_REFUSED",
    ],
    ["connection.open", 530, "NOT_ALLOWED - vhost mesh not found", "VHOST_NOT_FOUND"],
    ["connection.open", 530, "NOT_ALLOWED - access to vhost 'mesh' refused for user 'ann'", "ACCESS_REFUSED"],
  ];
  for (const [step, code, text, expected] of reasons) {
    it(`tells why: ${expected} for ${text}`, async () => {
      await using broker = await FakeBroker.start();
      broker.on(step, ({ session }) => session.send(method(0, "connection.close", { code, text })));
      const error = await refusal(connect(broker.url));
      assert.equal(error.code, expected);
      assert.ok(error.message.includes(text));
      assert.equal(error.cause, undefined);
    });
  }

  for (const [code, expected] of [[404, "NOT_FOUND"], [406, "PRECONDITION_FAILED"]] as const) {
    it(`tells why: ${expected} for an exchange`, async () => {
      await using broker = await FakeBroker.start();
      broker.on("exchange.declare", ({ session, channel }) => {
        broker.on("exchange.declare", () => {});
        session.send(method(channel, "channel.close", { code, text: "the exchange" }));
      });
      const error = await refusal(connect(broker.url));
      assert.equal(error.code, expected);
      assert.match(error.message, /the exchange/);
    });
  }

  it("tells the refusal of the answers' queue", async () => {
    await using broker = await FakeBroker.start();
    broker.on(
      "basic.consume",
      ({ session, channel }) =>
        session.send(method(channel, "channel.close", { code: 403, text: "ACCESS_REFUSED - read" })),
    );
    const error = await refusal(connect(broker.url));
    assert.equal(error.code, "ACCESS_REFUSED");
  });
});
