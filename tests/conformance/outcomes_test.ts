import assert from "node:assert/strict";
import {
  NuropbAuthenticationError,
  NuropbAuthorizationError,
  NuropbCallAgain,
  NuropbCallAgainReject,
  NuropbDeprecatedError,
  NuropbException,
  NuropbHandlingError,
  NuropbMessageError,
  NuropbNotDeliveredError,
  NuropbTimeoutError,
  NuropbTransportError,
  NuropbValidationError,
} from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { urls } from "../support/env.ts";
import { failure, stage, within } from "./stage.ts";

class OrderLocked extends Error {
  override name = "OrderLocked";
}

class OrderGone extends NuropbException {
  override get name() {
    return "OrderGone";
  }
}

/** What a method may throw, and the name and text that its caller gets. */
const thrown: [string, () => unknown, string, string | RegExp][] = [
  ["undefined", () => undefined, "NuropbException", /undefined/],
  ["null", () => null, "NuropbException", /null/],
  ["a text", () => "no", "NuropbException", /no/],
  ["a number", () => 0, "NuropbException", /0/],
  ["a BigInt", () => 5n, "NuropbException", /5/],
  ["a symbol", () => Symbol("odd"), "NuropbException", /odd/],
  ["a function", () => () => "no", "NuropbException", /./],
  ["an object", () => ({ message: "no" }), "NuropbException", /./],
  ["an object without a prototype", () => Object.create(null), "NuropbException", /./],
  ["a frozen object", () => Object.freeze({ a: 1 }), "NuropbException", /./],
  ["an Error", () => new Error("no"), "Error", "no"],
  ["a frozen Error", () => Object.freeze(new TypeError("no")), "TypeError", "no"],
  ["an Error without a text", () => new Error(), "Error", ""],
  ["an Error of its own class", () => new OrderLocked("order 5"), "OrderLocked", "order 5"],
  ["a DOMException", () => new DOMException("too late", "TimeoutError"), "TimeoutError", "too late"],
  ["an AggregateError", () => new AggregateError([new Error("a")], "all"), "AggregateError", "all"],
  ["a class of its own below ours", () => new OrderGone("order 6"), "OrderGone", "order 6"],
  ["text of every kind", () => new Error("ü😀\u0000\n\"'\uD800"), "Error", "ü😀\u0000\n\"'\uD800"],
];

/** What must not keep the caller from its answer. */
const hostile: [string, () => unknown][] = [
  ["toString throws", () => ({
    toString() {
      throw new Error("hostile");
    },
  })],
  ["toString gives no text", () => ({ toString: () => ({}) })],
  ["message throws", () =>
    Object.defineProperty(new Error(), "message", {
      get() {
        throw new Error("hostile");
      },
    })],
  ["name throws", () =>
    Object.defineProperty(new Error("no"), "name", {
      get() {
        throw new Error("hostile");
      },
    })],
  ["name is no text", () => Object.assign(new Error("no"), { name: { toString: () => "named" } })],
  ["message is a symbol", () => Object.assign(new Error(), { message: Symbol("odd") })],
  ["description throws, in a class below ours", () =>
    new (class extends NuropbException {
      override get description(): string {
        throw new Error("hostile");
      }
    })("no")],
  ["description throws itself, in a class below ours", () =>
    new (class extends NuropbException {
      override get description(): string {
        throw this;
      }
    })("no")],
  ["description is no text, in a class below ours", () =>
    new (class extends NuropbException {
      override get description(): string {
        return 5n as unknown as string;
      }
    })("no")],
  ["prototype cannot be asked for", () =>
    new Proxy({}, {
      getPrototypeOf() {
        throw new Error("hostile");
      },
    })],
  ["every trap throws", () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  }],
  ["text is 3 MB", () => new Error("x".repeat(3 * 2 ** 20))],
];

const classes = [
  NuropbException,
  NuropbTimeoutError,
  NuropbTransportError,
  NuropbMessageError,
  NuropbHandlingError,
  NuropbDeprecatedError,
  NuropbValidationError,
  NuropbAuthenticationError,
  NuropbAuthorizationError,
  NuropbNotDeliveredError,
  NuropbCallAgainReject,
];

const cycle: Record<string, unknown> = {};
cycle["self"] = { cycle };

const unsendable: [string, () => unknown, string][] = [
  ["a BigInt", () => 5n, "5n"],
  ["a nested BigInt", () => ({ a: [0, { b: 5n }] }), "result.a[1].b"],
  ["a function", () => () => {}, "a function"],
  ["a symbol", () => Symbol("odd"), "Symbol(odd)"],
  ["a cycle", () => cycle, "result"],
  ["NaN", () => ({ price: NaN }), "result.price"],
  ["Infinity", () => [-Infinity], "result[0]"],
  ["a Map", () => new Map([["a", 1]]), "Map"],
  ["bytes", () => ({ bytes: new Uint8Array(3) }), "result.bytes"],
  ["what throws in toJSON", () => ({
    toJSON() {
      throw new Error("hostile");
    },
  }), "result"],
  ["what throws when it is read", () => ({
    get price() {
      throw new Error("hostile");
    },
  }), "hostile"],
];

for (const { name, url } of urls()) {
  describe(`a request whose method throws on ${name}`, () => {
    const open = stage(url);
    const methods = (make: () => unknown) => ({
      sync() {
        throw make();
      },
      async later() {
        await Promise.resolve();
        throw make();
      },
      alive: () => "alive",
    });

    for (const [what, make, remoteName, text] of thrown) {
      it(`is answered with ${remoteName} for ${what}`, async () => {
        const service = await open.service(methods(make));
        const mesh = await open.mesh();
        for (const method of ["sync", "later"]) {
          const error = await failure(
            NuropbException,
            () => mesh.request(service.name, method, {}, { ttl: 5_000 }),
          );
          assert.equal(error.code, "HANDLER_FAILED");
          assert.equal(error.remote?.name, remoteName);
          assert.equal(error.message, error.remote.description);
          if (typeof text === "string") assert.equal(error.message, text);
          else assert.match(error.message, text);
        }
        assert.equal(await mesh.request(service.name, "alive"), "alive");
      });
    }

    for (const [what, make] of hostile) {
      it(`is answered even when its ${what}`, async () => {
        const service = await open.service(methods(make));
        const mesh = await open.mesh();
        for (const method of ["sync", "later"]) {
          const { error } = await mesh.requestRaw(service.name, method, {}, { ttl: 1_000 });
          assert.equal(typeof error?.error, "string");
        }
        assert.equal(await mesh.request(service.name, "alive"), "alive");
      });
    }

    for (const Class of classes) {
      it(`arrives as ${Class.name} for one of that class`, async () => {
        const service = await open.service(
          methods(() => new Class("the text", { cause: new Error("secret") })),
        );
        const mesh = await open.mesh();
        const error = await failure(Class, () => mesh.request(service.name, "sync"));
        const local = new Class("the text");
        assert.equal(error.name, Class.name);
        assert.equal(error.code, local.code);
        assert.equal(error.message, "the text");
        assert.equal(error.description, "the text");
        assert.deepEqual(error.remote, { name: Class.name, description: "the text" });
        assert.equal(error.cause, undefined);
      });
    }

    it("keeps the code of its class whatever the text begins with", async () => {
      const service = await open.service(
        methods(() => new NuropbValidationError("Unknown method of payment")),
      );
      const mesh = await open.mesh();
      const error = await failure(NuropbValidationError, () => mesh.request(service.name, "sync"));
      assert.equal(error.code, "INVALID_PARAMS");
    });

    it("does not tell the caller where in the service it happened", async () => {
      const service = await open.service(methods(() => new Error("no", { cause: new Error("secret") })));
      const raw = await (await open.mesh()).requestRaw(service.name, "sync");
      assert.deepEqual(raw.error, { error: "Error", description: "no" });
      assert.equal(raw.result, null);
    });
  });

  describe(`a request whose result cannot be sent on ${name}`, () => {
    const open = stage(url);

    for (const [what, make, text] of unsendable) {
      it(`is answered with NuropbHandlingError for ${what}`, async () => {
        const service = await open.service({ work: make, alive: () => "alive" });
        const mesh = await open.mesh();
        const error = await failure(
          NuropbHandlingError,
          () => mesh.request(service.name, "work", {}, { ttl: 5_000 }),
        );
        assert.equal(error.code, "HANDLER_FAILED");
        assert.ok(error.message.includes(`${service.name}.work`), error.message);
        assert.ok(error.message.includes(text), error.message);
        assert.equal(await mesh.request(service.name, "alive"), "alive");
      });
    }
  });

  describe(`a method that asks to be called again on ${name}`, () => {
    const open = stage(url);

    it("is called again, once, and then answers", async () => {
      const runs: boolean[] = [];
      const service = await open.service({
        work(_params: unknown, { redelivered }: Context) {
          runs.push(redelivered);
          if (!redelivered) throw new NuropbCallAgain("busy");
          return "done";
        },
      });
      assert.equal(await within((await open.mesh()).request(service.name, "work")), "done");
      assert.deepEqual(runs, [false, true]);
    });

    it("is refused the second time, and the caller told so", async () => {
      let runs = 0;
      const service = await open.service({
        work() {
          runs++;
          throw new NuropbCallAgain("busy");
        },
      });
      const mesh = await open.mesh();
      const error = await failure(NuropbCallAgainReject, () => mesh.request(service.name, "work"));
      assert.equal(error.code, "CALL_AGAIN_REJECTED");
      assert.ok(error.message.includes(`${service.name}.work`), error.message);
      assert.equal(runs, 2);
    });

    it("may be called again by another instance", async () => {
      let refused = 0;
      const busy = {
        work(_params: unknown, { redelivered }: Context) {
          if (redelivered) return "done";
          refused++;
          throw new NuropbCallAgain("busy");
        },
      };
      const { name } = await open.service(busy);
      await open.service(busy, { name });
      const mesh = await open.mesh();
      const answers = await Promise.all(Array.from({ length: 10 }, () => mesh.request(name, "work")));
      assert.deepEqual(new Set(answers), new Set(["done"]));
      assert.equal(refused, 10);
    });
  });
}
