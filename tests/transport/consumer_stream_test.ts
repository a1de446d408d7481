import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { ConsumerStream } from "../../src/client/consumer_stream.ts";
import type { StreamSource } from "../../src/client/consumer_stream.ts";
import type { Consumer } from "../../src/transport/transport.ts";
import { noticeRejections, soon } from "./fake_broker.ts";

/** A signal that tells how many listen to it. */
function counted(controller: AbortController): { signal: AbortSignal; listeners(): number } {
  const { signal } = controller;
  const listeners = new Set<unknown>();
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...[type, listener]: Parameters<typeof addEventListener>) => {
    listeners.add(listener);
    addEventListener.call(signal, type, listener);
  };
  signal.removeEventListener = (...[type, listener]: Parameters<typeof removeEventListener>) => {
    listeners.delete(listener);
    removeEventListener.call(signal, type, listener);
  };
  return { signal, listeners: () => listeners.size };
}

/** A stream, and how often its owner was told that it has ended. */
function streamOf(signal: AbortSignal, consume: StreamSource<number>["consume"]) {
  const told = { closed: 0 };
  const stream = new ConsumerStream<number>({ consume, onclosed: () => void told.closed++ }, signal);
  // Its owner learns of it only now.
  assert.equal(told.closed, 0);
  return { stream, told };
}

const nothing: Consumer = { cancel: () => Promise.resolve(), close: () => Promise.resolve() };

describe("a stream", () => {
  noticeRejections();

  it("that cannot be opened tells its owner, and leaves nothing at its signal", async () => {
    const { signal, listeners } = counted(new AbortController());
    for (let turn = 1; turn <= 3; turn++) {
      const { stream, told } = streamOf(signal, () => Promise.reject(new Error("refused")));
      await assert.rejects(stream.ready, { message: "refused" });
      await assert.rejects(soon(stream.next()), { message: "refused" });
      assert.deepEqual(await soon(stream.next()), { done: true, value: undefined });
      assert.equal(told.closed, 1);
      assert.equal(listeners(), 0);
    }
  });

  it("gives each item that was asked for before it came to one who asked, and its end to the others", async () => {
    let push: (take: () => number) => void = () => {};
    const { stream } = streamOf(new AbortController().signal, (onitem) => {
      push = onitem;
      return Promise.resolve(nothing);
    });
    await stream.ready;
    for (let turn = 1; turn <= 2; turn++) {
      const asked = Array.from({ length: 3 }, () => stream.next());
      for (const item of [1, 2, 3]) push(() => item);
      const taken = (await soon(Promise.all(asked))).map(({ value }) => value);
      assert.deepEqual(taken.toSorted(), [1, 2, 3]);
    }
    const late = [stream.next(), stream.next()];
    await stream.close();
    for (const end of await soon(Promise.all(late))) assert.deepEqual(end, { done: true, value: undefined });
  });

  it("whose signal has aborted before is not opened, tells its owner, and leaves nothing there", async () => {
    const controller = new AbortController();
    controller.abort();
    const { signal, listeners } = counted(controller);
    const { stream, told } = streamOf(signal, () => assert.fail("It was opened"));
    assert.deepEqual(await soon(stream.next()), { done: true, value: undefined });
    await stream.ready;
    assert.ok(stream.closed);
    assert.equal(told.closed, 1);
    assert.equal(listeners(), 0);
  });

  it("that is closed leaves nothing at its signal, and tells its owner once", async () => {
    const controller = new AbortController();
    const { signal, listeners } = counted(controller);
    const { stream, told } = streamOf(signal, () => Promise.resolve(nothing));
    await stream.ready;
    assert.equal(listeners(), 1);
    await stream.close();
    controller.abort();
    assert.equal(told.closed, 1);
    assert.equal(listeners(), 0);
  });
});
