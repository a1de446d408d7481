import assert from "node:assert/strict";
import { NuropbMessageError, NuropbValidationError } from "@nuropb/mesh";
import type { Mesh } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, stage, within } from "./stage.ts";

/** What TypeScript would not let pass. */
const wrong = <Type>(value: unknown) => value as Type;

const cycle: Record<string, unknown> = {};
cycle["self"] = cycle;
class Point {
  readonly x = NaN;
}

/** Params that cannot be sent, and what the error says. */
const params: [string, unknown, string][] = [
  ["an array", [1], "params must be an object, but is an array"],
  ["a text", "text", 'params must be an object, but is "text"'],
  ["null", null, "params must be an object, but is null"],
  ["a number", 5, "params must be an object, but is 5"],
  ["a BigInt", 5n, "params must be an object, but is 5n"],
  ["a function", () => {}, "params must be an object, but is a function"],
  ["a symbol", Symbol("odd"), "params must be an object, but is Symbol(odd)"],
  ["a Map", new Map(), "params must be something that JSON can carry"],
  ["bytes", new Uint8Array(2), "params must be something that JSON can carry"],
  ["a date", new Date(0), "params"],
  ["a boxed text", Object("text"), "params"],
  ["a boxed number", Object(5), "params"],
  ["what toJSON makes an array of", { toJSON: () => [1] }, "params"],
  ["what toJSON makes nothing of", { toJSON: () => undefined }, "params"],
  ["a cycle", cycle, "params.self"],
  [
    "a nested BigInt",
    { a: { b: [0, 5n] } },
    "params.a.b[1] must be something that JSON can carry, but is 5n",
  ],
  ["a nested function", { on: { click() {} } }, "params.on.click must be something"],
  [
    "a nested symbol",
    { id: Symbol("odd") },
    "params.id must be something that JSON can carry, but is Symbol(odd)",
  ],
  ["a nested NaN", { price: NaN }, "params.price must be something that JSON can carry, but is NaN"],
  [
    "a nested Infinity",
    { price: [-Infinity] },
    "params.price[0] must be something that JSON can carry, but is -Inf",
  ],
  ["a nested Map", { index: new Map() }, "params.index"],
  ["a nested Set", { tags: new Set() }, "params.tags"],
  ["nested bytes", { data: [new Uint8Array(1)] }, "params.data[0]"],
  ["a nested buffer", { data: new ArrayBuffer(1) }, "params.data"],
  ["NaN in an instance", { point: new Point() }, "params.point.x"],
  ["a boxed BigInt", { a: Object(5n) }, "params"],
  ["NaN behind toJSON", { a: { toJSON: () => ({ price: NaN }) } }, "params.a"],
  ["a toJSON that throws", {
    a: {
      toJSON() {
        throw new Error("hostile");
      },
    },
  }, "params"],
];

const longName = "é".repeat(123);

/** Calls that cannot be made, and what the error says. */
const calls: [string, (mesh: Mesh, service: string) => unknown, string][] = [
  ["an empty service", (mesh) => mesh.request("", "work"), 'must be a non-empty string, but is ""'],
  ["a service that is no text", (mesh) => mesh.request(wrong(5), "work"), "but is 5"],
  ["no service", (mesh) => mesh.request(wrong(undefined), "work"), "but is undefined"],
  ["a service of 246 bytes", (mesh) => mesh.request(longName, "work"), "at most 245 bytes"],
  ["a command to an empty service", (mesh) => mesh.command("", "work"), 'but is ""'],
  ["a command to a service of 246 bytes", (mesh) => mesh.command(longName, "work"), "at most 245 bytes"],
  ["a description of an empty service", (mesh) => mesh.describe(""), 'but is ""'],
  ["a proxy of an empty service", (mesh) => mesh.service(""), 'but is ""'],
  ["a proxy of a service that is no text", (mesh) => mesh.service(wrong({})), "but is an object"],
  ["an empty method", (mesh, service) => mesh.request(service, ""), "method"],
  ["a method that is no text", (mesh, service) => mesh.request(service, wrong(5)), "but is 5"],
  [
    "a method that is a symbol",
    (mesh, service) => mesh.request(service, wrong(Symbol("work"))),
    "Symbol(work)",
  ],
  ["a command of an empty method", (mesh, service) => mesh.command(service, ""), "method"],
  ["an empty topic", (mesh) => mesh.publish("", 1), 'The topic must be a non-empty string, but is ""'],
  ["a topic of 256 bytes", (mesh) => mesh.publish("x".repeat(256), 1), "at most 255 bytes"],
  ["a topic that is no text", (mesh) => mesh.publish(wrong(null), 1), "but is null"],
  [
    "an event of a function",
    (mesh) => mesh.publish("topic", () => {}),
    "event must be something that JSON can carry",
  ],
  ["an event with a BigInt", (mesh) => mesh.publish("topic", { a: [5n] }), "event.a[0]"],
  ["a target that is no list", (mesh) => mesh.publish("topic", 1, { target: wrong("billing") }), '"billing"'],
  ["a target that lists no texts", (mesh) => mesh.publish("topic", 1, { target: wrong([5]) }), "target"],
  ["an empty pattern", (mesh) => mesh.subscribe(""), 'but is ""'],
  ["no pattern", (mesh) => mesh.subscribe([]), "one pattern or more"],
  ["an empty pattern among others", (mesh) => mesh.subscribe(["a", ""]), 'but is ""'],
  ["a pattern of 256 bytes", (mesh) => mesh.subscribe("x".repeat(256)), "at most 255 bytes"],
  ["a buffer of 0", (mesh) => mesh.subscribe("a", { buffer: 0 }), "buffer must be a whole number from 1"],
  ["a buffer of 65 536", (mesh) => mesh.subscribe("a", { buffer: 65_536 }), "to 65535, but is 65536"],
];

const ttls: [unknown, string][] = [
  [0, "but is 0"],
  [-1, "but is -1"],
  [1.5, "but is 1.5"],
  [NaN, "but is NaN"],
  [Infinity, "but is Infinity"],
  ["5", 'but is "5"'],
  [5n, "but is 5n"],
  [2 ** 31, "but is 2147483648"],
];

for (const ask of ["request", "command"] as const) {
  for (const [ttl, text] of ttls) {
    calls.push([
      `a ${ask} with a ttl of ${String(ttl)} (${typeof ttl})`,
      (mesh, service) => mesh[ask](service, "work", {}, { ttl: wrong(ttl) }),
      text,
    ]);
  }
  for (const traceId of ["", 5, {}]) {
    calls.push([
      `a ${ask} with the trace ${JSON.stringify(traceId)}`,
      (mesh, service) => mesh[ask](service, "work", {}, { traceId: wrong(traceId) }),
      "traceId must be",
    ]);
  }
  for (const context of [[1], "text", 5, { a: 5n }, new Map(), new Date(0)]) {
    calls.push([
      `a ${ask} with a context that is ${Object.prototype.toString.call(context)}`,
      (mesh, service) => mesh[ask](service, "work", {}, { context: wrong(context), ttl: 1_000 }),
      "context",
    ]);
  }
}
calls.push(
  ["an event with an empty trace", (mesh) => mesh.publish("topic", 1, { traceId: "" }), "traceId"],
  [
    "an event with a context that is a list",
    (mesh) => mesh.publish("topic", 1, { context: wrong([]) }),
    "context",
  ],
);

for (const { name, url } of urls()) {
  describe(`refused on ${name} before anything is sent is`, () => {
    const open = stage(url);

    async function counting() {
      const calls: unknown[] = [];
      const service = await open.service({
        work: (params: unknown) => {
          calls.push(params);
          return calls.length;
        },
      }, { events: { topic: (payload) => void calls.push(payload) }, concurrency: 1 });
      return { service, mesh: await open.mesh() };
    }

    async function assertRefused(call: (mesh: Mesh, service: string) => unknown, text: string) {
      const { service, mesh } = await counting();
      const error = await failure(NuropbValidationError, async () => await call(mesh, service.name));
      assert.equal(error.code, "INVALID_ARGUMENT");
      assert.equal(error.remote, undefined);
      assert.ok(error.message.includes(text), error.message);
      assert.ok(error.message.length < 300, "the text is short");
      assert.equal(await mesh.request(service.name, "work"), 1);
    }

    for (const [what, call, text] of calls) {
      it(what, () => assertRefused(call, text));
    }

    for (const [what, value, text] of params) {
      it(`a request with params that are or hold ${what}`, () =>
        assertRefused((mesh, service) => mesh.request(service, "work", wrong(value), { ttl: 1_000 }), text));
    }

    it("a command, or a call of the typed proxy, with such params", async () => {
      const nested = { a: [5n] };
      await assertRefused((mesh, service) => mesh.command(service, "work", nested), "params.a[0]");
      await assertRefused(
        (mesh, service) => mesh.service<{ work(params: unknown): void }>(service).work(wrong(nested)),
        "params.a[0]",
      );
    });

    it("a value so long that its error would not be read", () =>
      assertRefused((mesh) => mesh.request("x".repeat(100_000), "work"), "at most 245 bytes"));
  });

  describe(`a body over maxMessageSize on ${name}`, () => {
    const open = stage(url);
    const big = "x".repeat(50_000);
    const small = { maxMessageSize: 10_000 };

    it("is not sent by a caller, whose mesh goes on", async () => {
      const service = await open.service({ work: () => "done" });
      const mesh = await open.mesh(small);
      for (
        const call of [
          () => mesh.request(service.name, "work", { big }),
          () => mesh.request(service.name, "work", {}, { context: { big } }),
          () => mesh.command(service.name, "work", { big }),
          () => mesh.publish(uniqueName("topic"), { big }),
        ]
      ) {
        const error = await failure(NuropbMessageError, () => within(Promise.resolve(call())));
        assert.equal(error.code, "MESSAGE_TOO_LARGE");
        assert.match(error.message, /10000/);
      }
      assert.equal(await mesh.request(service.name, "work"), "done");
    });

    it("is not taken in by a caller, who is told", async () => {
      const service = await open.service({ big: () => big, small: () => "small" });
      const mesh = await open.mesh(small);
      const error = await failure(
        NuropbMessageError,
        () => mesh.request(service.name, "big", {}, { ttl: 5_000 }),
      );
      assert.equal(error.code, "MESSAGE_TOO_LARGE");
      assert.equal(await mesh.request(service.name, "small"), "small");
    });

    it("is not sent by a service, which tells its caller", async () => {
      const service = await open.service({ big: () => big, small: () => "small" }, small);
      const mesh = await open.mesh();
      const error = await failure(
        NuropbMessageError,
        () => mesh.request(service.name, "big", {}, { ttl: 5_000 }),
      );
      assert.equal(error.remote?.name, "NuropbMessageError");
      assert.equal(await mesh.request(service.name, "small"), "small");
    });

    it("is answered as an error even when the error's own text is too long", async () => {
      const service = await open.service({
        fail() {
          throw new Error(big);
        },
      }, small);
      const mesh = await open.mesh();
      const { error } = await mesh.requestRaw(service.name, "fail", {}, { ttl: 2_000 });
      assert.notEqual(error, null);
    });

    it("is not handled by a service, which goes on", async () => {
      const calls: unknown[] = [];
      const service = await open.service({ work: (params: unknown) => calls.push(params) }, small);
      const mesh = await open.mesh();
      await mesh.command(service.name, "work", { big });
      assert.equal(await mesh.request(service.name, "work", { small: 1 }), 1);
      assert.deepEqual(calls, [{ small: 1 }]);
    });

    it("is skipped by a subscriber, who gets the next event", async () => {
      const topic = uniqueName("topic");
      const subscription = (await open.mesh(small)).subscribe(topic);
      await subscription.ready;
      const mesh = await open.mesh();
      await mesh.publish(topic, big);
      await mesh.publish(topic, "small");
      assert.equal((await within(subscription.next())).value?.event, "small");
    });
  });
}
