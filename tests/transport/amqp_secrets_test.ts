import assert from "node:assert/strict";
import { inspect } from "node:util";
import { connect, serve } from "@nuropb/mesh";
import type { Logger, MeshStatus } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { FakeBroker, method, noticeRejections, plain, showsNoPassword, until } from "./fake_broker.ts";
import type { Session } from "./fake_broker.ts";

/** A logger that keeps every argument. */
function recorder(): { logger: Logger; lines: unknown[] } {
  const lines: unknown[] = [];
  const log = (...line: unknown[]) => void lines.push(line);
  return { logger: { debug: log, info: log, warn: log, error: log }, lines };
}

async function errorOf(operation: Promise<unknown>): Promise<unknown> {
  return await operation.then(() => assert.fail("It did not fail"), (error: unknown) => error);
}

/** Ways to fail a connection that is open. */
const failures: readonly [what: string, fail: (session: Session) => void][] = [
  ["a drop", (session) => session.drop()],
  [
    "a refusal of the connection",
    (session) => session.send(method(0, "connection.close", { code: 541, text: "INTERNAL_ERROR" })),
  ],
  ["a refusal of every channel", (session) => {
    for (const channel of [1, 2, 3]) {
      session.send(method(channel, "channel.close", { code: 403, text: "ACCESS_REFUSED" }));
    }
  }],
  [
    "bytes that are no AMQP",
    (session) => session.send(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n")),
  ],
];

describe("the password in a broker's url", () => {
  noticeRejections();

  it("is in nothing that is shown of an open mesh and a service", async () => {
    await using broker = await FakeBroker.start();
    await using service = await serve({ order: () => 1 }, { url: broker.url, name: "shop" });
    await using mesh = await connect(broker.url);
    for (const value of [mesh, service, service.mesh, mesh.subscribe("orders.*"), mesh.service("shop")]) {
      showsNoPassword(value);
    }
    assert.ok(!`${JSON.stringify([mesh, service])}`.includes("sesame"));
  });

  it("is in no error and no log line of a refusal of wrong credentials", async () => {
    await using broker = await FakeBroker.start();
    const { logger, lines } = recorder();
    broker.on(
      "connection.start-ok",
      ({ session }) =>
        session.send(
          method(0, "connection.close", { code: 403, text: "ACCESS_REFUSED - Login was refused" }),
        ),
    );
    const urls = [broker.url, broker.url];
    for (
      const error of [
        await errorOf(connect(broker.url, { logger })),
        await errorOf(connect(urls, { logger })),
        await errorOf(serve({ order: () => 1 }, { url: broker.url, name: "shop", logger })),
      ]
    ) {
      assert.match(inspect(error), /Login was refused/);
      showsNoPassword(error);
    }
    assert.notEqual(lines.length, 0);
    showsNoPassword(lines);
  });

  it("is in no error of a broker that cannot be reached, does not answer, or goes at once", async () => {
    const { logger, lines } = recorder();
    await using broker = await FakeBroker.start();
    broker.on("header", () => {});
    showsNoPassword(await errorOf(connect(broker.url, { connectTimeout: 30, logger })));
    broker.on("header", ({ session }) => session.drop());
    showsNoPassword(await errorOf(connect(broker.url, { logger })));
    const gone = await FakeBroker.start();
    await gone[Symbol.asyncDispose]();
    showsNoPassword(await errorOf(connect(gone.url, { logger })));
    const secure = broker.url.replace("amqp:", "amqps:");
    showsNoPassword(await errorOf(connect(secure, { connectTimeout: 100, logger })));
    // What came in last was TLS.
    broker.faults.length = 0;
    showsNoPassword(lines);
  });

  for (const [what, fail] of failures) {
    it(`is in no error, no status and no log line of ${what}`, async () => {
      await using broker = await FakeBroker.start();
      const { logger, lines } = recorder();
      await using service = await serve({ order: () => 1 }, { url: broker.url, name: "shop", logger });
      const statuses: MeshStatus[] = [];
      service.mesh.addEventListener("status", ({ detail }) => statuses.push(detail));
      broker.on("basic.publish", () => {});
      const pending = [
        service.mesh.request("shop", "order", {}, plain),
        service.mesh.command("shop", "order", {}, plain),
      ].map((operation) => operation.catch((error: unknown) => error));
      await until(() => broker.session.published.length === 2);
      broker.off("basic.publish");
      fail(broker.session);
      const outcomes = await Promise.all(pending);
      assert.ok(outcomes[0] instanceof Error);
      await until(() => service.mesh.status.state === "open" && lines.length > 0);
      for (const value of [...outcomes, statuses, lines, service, service.mesh]) showsNoPassword(value);
    });
  }
});
