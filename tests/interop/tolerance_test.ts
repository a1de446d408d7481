import assert from "node:assert/strict";
import { connect, type Mesh, NuropbException, serve, type Service } from "@nuropb/mesh";
import { afterAll, beforeAll, it } from "@std/testing/bdd";
import { uniqueName } from "../support/env.ts";
import { PythonPeer } from "./python_peer.ts";
import { brokerUrl, describeWithPython, Inbox, inTime, newTrace, receivedBy, rejection } from "./support.ts";

/**
 * NuroPb 0.1.8 raises in `nuropb_describe` for many a service that works well otherwise: one whose module has
 * `from __future__ import annotations`, one with a parameter of type `Literal["a"]` or `Callable[..., int]`,
 * one with a class among its attributes, one that asks for encryption and has no key.
 */
describeWithPython("a caller of ours and a Python service that cannot describe itself", () => {
  let python: PythonPeer;
  let mesh: Mesh;

  beforeAll(async () => {
    [python, mesh] = await Promise.all([
      PythonPeer.start({ url: brokerUrl(), service: uniqueName("undescribable"), undescribable: true }),
      connect(brokerUrl()),
    ]);
  });

  afterAll(async () => {
    await mesh?.close();
    await python?.close();
  });

  it("get the result of a request", async () => {
    assert.equal(await mesh.request(python.service, "odd", { a: 7 }), 7);
    assert.equal(await mesh.service<{ add(params: { a: number }): number }>(python.service).add({ a: 1 }), 3);
  });

  it("do a command", async () => {
    const traceId = newTrace();
    await mesh.command(python.service, "add", { a: 5 }, { traceId });
    const calls = (await receivedBy(python, mesh, traceId)).map((
      { type, payload },
    ) => [type, payload["method"]]);
    assert.deepEqual(calls.filter(([, method]) => method !== "nuropb_describe"), [["command", "add"]]);
  });

  it("tell what the description failed of to who asks for it", async () => {
    const error = await rejection(mesh.describe(python.service));
    assert.ok(error instanceof NuropbException);
    assert.equal(error.remote?.name, "AttributeError");
  });
});

/** Python's services take both, though neither is meant. */
describeWithPython("a Python caller's slips, and a service of ours", () => {
  const topic = uniqueName("topic");
  const heard = new Inbox<unknown>();
  let python: PythonPeer;
  let service: Service;

  beforeAll(async () => {
    [python, service] = await Promise.all([
      PythonPeer.start({ url: brokerUrl(), service: uniqueName("caller") }),
      serve({
        add: ({ a }: { a: number }) => a + 1,
        note: (params: unknown) => heard.put(params),
      }, {
        url: brokerUrl(),
        name: uniqueName("patient-ts"),
        events: { [topic]: (event: unknown) => heard.put(event) },
      }),
    ]);
  });

  afterAll(async () => {
    await python?.close();
    await service?.close();
  });

  it("are a request without a context, which is answered", async () => {
    const answer = python.request(service.name, "add", { a: 1 }, { context: null });
    assert.equal(await inTime("the answer", answer), 2);
  });

  it("are a command and an event without a context, which are handled", async () => {
    await python.command(service.name, "note", { text: "hello" }, { context: null });
    assert.deepEqual(await heard.next(), { text: "hello" });
    await python.publish(topic, { id: 1 }, { context: null });
    assert.deepEqual(await heard.next(), { id: 1 });
  });

  it("are an event that it flags as encrypted and sends plain, which is handled", async () => {
    await python.publish(topic, { id: 2 }, { encrypted: true });
    assert.deepEqual(await heard.next(), { id: 2 });
  });
});
