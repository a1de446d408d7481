import assert from "node:assert/strict";
import { connect, NuropbTransportError } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { urls } from "../support/env.ts";
import { closedPort, listen } from "./listener.ts";
import { closing, reasonOf, within } from "./stage.ts";
import { askAll } from "./support_ask.ts";

const lazy = { lazy: true };

describe("a lazy mesh that does not get its connection", () => {
  const opening = closing();
  const urlOf = (port: number) => `amqp://127.0.0.1:${port}`;

  it("fails what waits with the reason, each, and is closed", async () => {
    const mesh = await connect(urlOf(await closedPort()), lazy);
    const reasons = await Promise.all(
      askAll(mesh, "nobody").map((promise) => reasonOf(() => within(promise))),
    );
    assert.equal(mesh.status.state, "closed");
    for (const reason of reasons) {
      assert.ok(reason instanceof NuropbTransportError);
      assert.equal(reason.code, "CONNECT_FAILED");
      assert.match(reason.message, /No broker can be reached at 127\.0\.0\.1/);
    }
    const late = await Promise.all(
      askAll(mesh, "nobody").map((promise) => reasonOf(() => within(promise))),
    );
    for (const reason of late) assert.ok(reason instanceof NuropbTransportError, String(reason));
    await within(mesh.close());
  });

  it("fails it after connectTimeout where nobody answers", async () => {
    const silent = await opening(listen());
    const mesh = await connect(urlOf(silent.port), { lazy: true, connectTimeout: 100 });
    const reasons = await Promise.all(
      askAll(mesh, "nobody").map((promise) => reasonOf(() => within(promise))),
    );
    for (const reason of reasons) {
      assert.ok(reason instanceof NuropbTransportError, String(reason));
      assert.equal(reason.code, "CONNECT_FAILED");
      assert.match(reason.message, /100 ms/);
    }
  });

  it("tries the other brokers of its list first", async () => {
    for (const { url } of urls()) {
      const silent = await opening(listen());
      const list = [urlOf(await closedPort()), urlOf(silent.port), url];
      const mesh = await opening(connect(list, { lazy: true, connectTimeout: 1_500 }));
      await within(mesh.ready());
      assert.equal(mesh.status.state, "open");
    }
  });

  it("gives up when its signal aborts", async () => {
    const silent = await opening(listen());
    const controller = new AbortController();
    const mesh = await connect(urlOf(silent.port), { lazy: true, signal: controller.signal });
    const ready = reasonOf(() => within(mesh.ready()));
    controller.abort(new Error("enough"));
    assert.match(String(await ready), /enough/);
    assert.equal(mesh.status.state, "closed");
  });

  it("can be closed while nobody answers, and leaves no connection behind", async () => {
    const silent = await opening(listen());
    const list = [urlOf(silent.port), urlOf(silent.port)];
    const mesh = await connect(list, lazy);
    const states: string[] = [];
    mesh.addEventListener("status", ({ detail }) => states.push(detail.state));
    const asked = askAll(mesh, "nobody").map((promise) => reasonOf(() => within(promise)));
    while (silent.connections.open === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    await within(mesh.close());
    for (const reason of await Promise.all(asked)) {
      assert.equal((reason as NuropbTransportError).code, "CLOSED");
    }
    while (silent.connections.open > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    assert.equal(silent.connections.opened, 1);
    assert.deepEqual(states, ["closing", "closed"]);
  });
});
