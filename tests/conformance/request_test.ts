import assert from "node:assert/strict";
import { NuropbException, NuropbHandlingError } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { urls } from "../support/env.ts";
import { failure, stage } from "./stage.ts";

class Echo {
  echo(params: Record<string, unknown>): unknown {
    return params;
  }

  value({ value }: { value?: unknown }): unknown {
    return value;
  }

  later({ value }: { value: number }): Promise<number> {
    return new Promise((resolve) => setTimeout(resolve, 1, value));
  }

  text({ length }: { length: number }): string {
    return "x".repeat(length);
  }

  nothing(): void {}

  fail(): never {
    throw new RangeError("too far");
  }
}

for (const { name, url } of urls()) {
  describe(`request on ${name}`, () => {
    const open = stage(url);

    const values: [string, unknown][] = [
      ["null", null],
      ["true", true],
      ["false", false],
      ["zero", 0],
      ["a fraction", -0.1],
      ["the largest safe integer", Number.MAX_SAFE_INTEGER],
      ["the largest number", Number.MAX_VALUE],
      ["an empty text", ""],
      ["text of every plane of Unicode", "aß€😀\u0000\u2028\u2029\uFFFD\u{10FFFF}"],
      ["text that looks like JSON", '"}],\\u0000\\"'],
      ["half of a surrogate pair", "\uD83D"],
      ["an empty array", []],
      ["an empty object", {}],
      ["nested arrays and objects", { a: [1, [2, { b: [] }], null], "": { " ": "" } }],
    ];
    for (const [what, value] of values) {
      it(`carries ${what} there and back`, async () => {
        const service = await open.service(new Echo());
        const mesh = await open.mesh();
        assert.deepEqual(await mesh.request(service.name, "value", { value }), value);
      });
    }

    it("waits for a method that returns a promise", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      assert.equal(await mesh.request(service.name, "later", { value: 7 }), 7);
    });

    it("gives null for a method that returns nothing, and for one that returns undefined", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      assert.equal(await mesh.request(service.name, "nothing"), null);
      assert.equal(await mesh.request(service.name, "value", { value: undefined }), null);
    });

    it("gives the method an empty object when there are no params", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      assert.deepEqual(await mesh.request(service.name, "echo"), {});
      assert.deepEqual(await mesh.request(service.name, "echo", undefined), {});
      assert.deepEqual(await mesh.request(service.name, "echo", {}), {});
    });

    it("writes values as JSON does: dates as text, undefined left out or null in an array", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      const params = { date: new Date(0), gone: undefined, list: [undefined], own: { toJSON: () => "own" } };
      assert.deepEqual(await mesh.request(service.name, "echo", params), {
        date: "1970-01-01T00:00:00.000Z",
        list: [null],
        own: "own",
      });
    });

    it("carries params of 1 MB", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      const value = "0123456789abcdé€".repeat(2 ** 16);
      assert.equal(await mesh.request(service.name, "value", { value }) === value, true);
    });

    it("carries a result of 2 MB", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      const text = await mesh.request<string>(service.name, "text", { length: 2 * 2 ** 20 });
      assert.equal(text.length, 2 * 2 ** 20);
    });

    it("carries params and results nested as deep as it lets them be sent", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      for (const levels of [98, 99, 100]) {
        let value: unknown = "bottom";
        for (let level = 1; level < levels; level++) value = [value];
        const answer = await mesh.request(service.name, "value", { value }, { ttl: 2_000 }).catch((error) =>
          error
        );
        if (answer instanceof NuropbException) {
          assert.equal(answer.code, "INVALID_ARGUMENT", `${levels} levels`);
        } else assert.deepEqual(answer, value);
      }
    });

    it("reaches a service whose name is as long as it may be", async () => {
      const service = await open.service(new Echo(), { name: `${crypto.randomUUID()}${"ü".repeat(104)}` });
      const mesh = await open.mesh();
      assert.deepEqual(await mesh.request(service.name, "echo", { a: 1 }), { a: 1 });
    });

    it("may be asked of the service's own mesh", async () => {
      const service = await open.service(new Echo());
      assert.deepEqual(await service.mesh.request(service.name, "echo", { a: 1 }), { a: 1 });
    });

    it("gives 2 000 requests at once each its own answer", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      const numbers = Array.from({ length: 2_000 }, (_, index) => index);
      const answers = await Promise.all(
        numbers.map((value) => mesh.request(service.name, value % 2 === 0 ? "later" : "value", { value })),
      );
      assert.deepEqual(answers, numbers);
    });
  });

  describe(`requestRaw on ${name}`, () => {
    const open = stage(url);

    it("gives the whole response", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      const options = { context: { user: { id: 5 } }, traceId: "trace-1" };
      const response = await mesh.requestRaw(service.name, "echo", { a: 1 }, options);
      const { correlationId, ...rest } = response;
      assert.match(correlationId, /^[0-9a-f]{32}$/);
      assert.deepEqual(rest, {
        result: { a: 1 },
        error: null,
        traceId: "trace-1",
        context: { user: { id: 5 } },
        warning: null,
      });
    });

    it("gives a method's error as data", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      const { result, error } = await mesh.requestRaw(service.name, "fail");
      assert.equal(result, null);
      assert.deepEqual(error, { error: "RangeError", description: "too far" });
    });

    it("makes up a trace id when it is not given one, and a correlation id for each request", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      const first = await mesh.requestRaw(service.name, "echo");
      const second = await mesh.requestRaw(service.name, "echo");
      assert.match(String(first.traceId), /^[0-9a-f]{32}$/);
      assert.notEqual(first.traceId, second.traceId);
      assert.notEqual(first.correlationId, second.correlationId);
    });
  });

  describe(`the typed proxy on ${name}`, () => {
    const open = stage(url);

    it("calls methods with params and without", async () => {
      const service = await open.service(new Echo());
      const echo = (await open.mesh()).service<Echo>(service.name);
      const length: number = await echo.later({ value: 5 });
      assert.equal(length, 5);
      assert.deepEqual(await echo.echo({ a: [1] }), { a: [1] });
      assert.equal(await echo.nothing(), null);
    });

    it("is no promise, whoever awaits it", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      const echo = await mesh.service<Echo>(service.name);
      assert.equal(await Promise.resolve(echo) === echo, true);
      assert.deepEqual(await echo.echo({ a: 1 }), { a: 1 });
    });

    it("gives the same function for a method each time", async () => {
      const echo = (await open.mesh()).service<Echo>("nobody");
      assert.equal(echo.echo, echo.echo);
      assert.notEqual(echo.echo, echo.later);
    });

    it("has its options from the proxy, and from the call where both give one", async () => {
      const service = await open.service({
        raw: (_params: unknown, { raw, traceId }: Context) => ({ raw, traceId }),
      });
      const mesh = await open.mesh();
      const proxy = mesh.service<{ raw(params?: object): unknown }>(service.name, {
        context: { from: "proxy" },
        traceId: "of-the-proxy",
      });
      assert.deepEqual(await proxy.raw(), { raw: { from: "proxy" }, traceId: "of-the-proxy" });
      assert.deepEqual(await proxy.raw({}, { context: { from: "call" } }), {
        raw: { from: "call" },
        traceId: "of-the-proxy",
      });
    });

    it("leaves the last word to the service", async () => {
      const service = await open.service(new Echo());
      const mesh = await open.mesh();
      const proxy = mesh.service<{ missing(): void }>(service.name);
      const error = await failure(NuropbHandlingError, () => proxy.missing());
      assert.equal(error.code, "UNKNOWN_METHOD");
    });
  });
}
