import assert from "node:assert/strict";
import { connect, NuropbTransportError } from "@nuropb/mesh";
import { describe } from "@std/testing/bdd";
import { FakeBroker, frame, noticeRejections, plain, together, until } from "./fake_broker.ts";

const heartbeat = 1_000;

/** The broker sends what the client does not answer, so that all heartbeats are the client's own. */
async function showsLife(): Promise<void> {
  await using broker = await FakeBroker.start();
  await using mesh = await connect(broker.url, { heartbeat });
  const { session } = broker;
  const start = performance.now();
  const timer = setInterval(() => session.send(frame(8, 99, new Uint8Array(0))), 400);
  await until(() => performance.now() - start > 2_700);
  clearInterval(timer);
  assert.equal(mesh.status.state, "open");
  assert.equal(broker.sessions.length, 1);
  // A broker cuts a connection that was silent for two beats.
  assert.ok(session.all("heartbeat").length >= 2, `${session.all("heartbeat").length} heartbeats`);
}

/** The socket stays open and nothing comes: what a pulled cable looks like. */
async function noticesSilence(): Promise<void> {
  await using broker = await FakeBroker.start();
  await using mesh = await connect(broker.url, { heartbeat });
  broker.on("basic.publish", () => {});
  const start = performance.now();
  await assert.rejects(mesh.request("shop", "order", {}, plain), (error: unknown) => {
    assert.ok(error instanceof NuropbTransportError);
    assert.equal(error.code, "CONNECTION_LOST");
    assert.match(error.message, /silent for close to two heartbeats of 1 s/);
    return true;
  });
  const elapsed = performance.now() - start;
  // Two beats, and what timers take on a busy machine.
  assert.ok(elapsed > 1_300 && elapsed < 2_500, `${elapsed} ms`);
  broker.off("basic.publish");
  assert.equal(await mesh.request("shop", "order", {}, plain), "pong");
  assert.equal(broker.sessions.length, 2);
}

/** Answers come, and no heartbeat. */
async function takesAnything(): Promise<void> {
  await using broker = await FakeBroker.start();
  await using mesh = await connect(broker.url, { heartbeat });
  const start = performance.now();
  while (performance.now() - start < 2_700) {
    await mesh.request("shop", "order", {}, plain);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  assert.equal(broker.sessions.length, 1);
}

describe("an idle connection", () => {
  noticeRejections();
  together({
    "shows the broker that it lives, and stays open while the broker does": showsLife,
    "is given up within two beats when the broker falls silent, and a new one is opened": noticesSilence,
    "is not given up while anything comes in, heartbeat or not": takesAnything,
  });
});
