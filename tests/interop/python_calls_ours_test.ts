import assert from "node:assert/strict";
import { serve, type Service } from "@nuropb/mesh";
import { afterAll, beforeAll, it } from "@std/testing/bdd";
import { uniqueName } from "../support/env.ts";
import { errors, Orders, quantitySchema } from "./orders.ts";
import { PythonError, PythonPeer } from "./python_peer.ts";
import { brokerUrl, describeWithPython, LogRecorder, newTrace, rejection } from "./support.ts";

describeWithPython("a Python caller and a service of ours", () => {
  const name = uniqueName("orders-ts");
  const orders = new Orders();
  const log = new LogRecorder();
  let python: PythonPeer;
  let service: Service;

  beforeAll(async () => {
    [python, service] = await Promise.all([
      PythonPeer.start({ url: brokerUrl(), service: uniqueName("caller") }),
      serve(orders, {
        url: brokerUrl(),
        name,
        logger: log,
        version: "3.2.1",
        description: "orders of ours",
        methods: {
          add: { description: "adds two" },
          hidden: { hidden: true },
          quantity: { params: quantitySchema },
        },
      }),
    ]);
  });

  afterAll(async () => {
    await python?.close();
    await service?.close();
  });

  const call = (method: string, params: object = {}) => python.request(name, method, params);
  const errorOf = async (method: string, params: object = {}) =>
    (await python.requestRaw(name, method, params)).error;

  it("get the result of a synchronous method, with our default for what is left out", async () => {
    assert.equal(await call("add", { a: 1, b: 5 }), 6);
    assert.equal(await call("add", { a: 1 }), 3);
  });

  it("get the result of an asynchronous method, and None for none", async () => {
    assert.equal(await call("slow", { milliseconds: 5 }), "slept");
    assert.equal(await call("nothing"), null);
  });

  it("carry any JSON there and back unchanged", async () => {
    const value = {
      text: 'héllo ✓ 𝄞 \0 "quoted" \\',
      numbers: [0, -1.5, 2 ** 53 - 1],
      deep: [[{ no: null }]],
    };
    assert.deepEqual(await call("echo", { value }), value);
  });

  it("give Python dates as ISO texts, leave out undefined, and keep every number's value", async () => {
    assert.deepEqual(await call("types"), {
      date: "2024-01-02T03:04:05.678Z",
      holes: [null, null],
      large: 2 ** 70,
      exact: 2 ** 60,
      minusZero: 0,
      unicode: "héllo ✓ 𝄞 \0 \u2028",
      nested: { list: [[1], [], {}] },
    });
  });

  it("answer many requests that are under way at once, each with its own result", async () => {
    const numbers = Array.from({ length: 100 }, (_, index) => index);
    const sums = await Promise.all(numbers.map((a) => call("add", { a, b: 1 })));
    assert.deepEqual(sums, numbers.map((a) => a + 1));
  });

  it("tell the name and the text of an error, ours or JavaScript's, to who reads the response", async () => {
    for (const [error, make] of Object.entries(errors)) {
      const { message } = make() as Error;
      assert.deepEqual(await errorOf("fail", { name: error }), { error, description: message });
    }
  });

  it("raise NuropbMessageError with the text in Python, which loses the name", async () => {
    const error = await rejection(call("fail", { name: "NuropbValidationError" }));
    assert.ok(error instanceof PythonError);
    assert.deepEqual([error.type, error.message], ["NuropbMessageError", "invalid input"]);
  });

  it("tell even what is no error, or a result that cannot be sent", async () => {
    assert.deepEqual(await errorOf("failWithText"), {
      error: "NuropbException",
      description: "thrown: only a text",
    });
    const unsendable = await errorOf("unsendable");
    assert.equal(unsendable?.error, "NuropbHandlingError");
    assert.match(unsendable.description, /unsendable.*NaN/);
  });

  it("refuse params that the method's schema does not take", async () => {
    assert.equal(await call("quantity", { qty: 3 }), 3);
    const error = await errorOf("quantity", { qty: "three" });
    assert.equal(error?.error, "NuropbValidationError");
    assert.match(error.description, /quantity.*qty: no number/);
  });

  it("keep unknown, private and hidden methods out of reach, in Python's words", async () => {
    for (const method of ["nope", "_private", "hidden", "constructor", "toString", "notes"]) {
      assert.deepEqual(await errorOf(method), {
        error: "NuropbHandlingError",
        description: `Unknown method ${method}`,
      });
    }
  });

  it("answer once, be it a result or an error", async () => {
    for (const method of ["nothing", "nope", "failWithText", "againOnce", "againLoop"]) {
      const traceId = newTrace();
      await python.requestRaw(name, method, {}, { traceId });
      // What comes after it on the response queue is there by now, and a surplus answer would be before it.
      await call("nothing");
      assert.equal((await python.answers(traceId)).length, 1, method);
    }
  });

  it("deliver once more what is to be called again, and then tell that it asked twice", async () => {
    assert.equal(await call("againOnce"), "second time");
    const error = await errorOf("againLoop");
    assert.equal(error?.error, "NuropbCallAgainReject");
  });

  it("carry context, trace id and time to live there, and the first two back", async () => {
    const options = {
      context: { Authorization: "Bearer tok", tenant: { id: 7 } },
      traceId: newTrace(),
      ttl: 7_000,
    };
    const response = await python.requestRaw(name, "about", {}, options);
    const { left, ...about } = response.result as Record<string, unknown>;
    assert.deepEqual(about, {
      raw: options.context,
      traceId: options.traceId,
      correlationId: response.correlation_id,
    });
    assert.ok(typeof left === "number" && left > 0 && left <= 7_000, `${left} ms left`);
    assert.deepEqual([response.context, response.trace_id], [options.context, options.traceId]);
    assert.equal(response.warning, null);
  });

  it("do without a trace id, as Python sends none of its own", async () => {
    const { result, trace_id } = await python.requestRaw(name, "about");
    assert.deepEqual([(result as { traceId: unknown }).traceId, trace_id], [null, null]);
  });

  it("do a command with its params, context and trace, and nobody answers", async () => {
    const traceId = newTrace();
    await python.command(name, "note", { text: "hello" }, { context: { u: 1 }, traceId });
    assert.deepEqual(await orders.notes.next(), { params: { text: "hello" }, raw: { u: 1 }, traceId });
    await call("nothing");
    assert.deepEqual(await python.answers(traceId), []);
  });

  it("log a command that fails, and go on", async () => {
    await python.command(name, "fail", { name: "OrderLocked" });
    const [line] = await log.until(1, ({ level }) => level === "error");
    assert.match(String(line?.fields["reason"]), /OrderLocked/);
    assert.equal(await call("add", { a: 1 }), 3);
  });

  it("are told apart from a service that nobody hosts", async () => {
    const nobody = uniqueName("nobody");
    const description = `Service ${nobody} not available. unable to call method greet`;
    assert.deepEqual((await python.requestRaw(nobody, "greet")).error, {
      error: "NuropbNotDeliveredError",
      description,
    });
    const error = await rejection(python.request(nobody, "greet"));
    assert.deepEqual(error instanceof PythonError && [error.type, error.message], [
      "NuropbMessageError",
      description,
    ]);
  });

  it("make Python read our description: no method of ours asks for encryption here", async () => {
    const { info, encrypted, has_public_key } = await python.describe(name);
    const { methods: given, ...facts } = info;
    const methods = given as Record<string, { description: string; parameters: { type: string } }>;
    assert.deepEqual(facts, {
      service_name: name,
      service_version: "3.2.1",
      description: "orders of ours",
      warnings: [],
      encrypted_methods: false,
      public_key: null,
    });
    assert.equal(has_public_key, false);
    assert.equal(methods["add"]?.description, "adds two");
    const names = Object.keys(methods);
    assert.deepEqual(["hidden", "_private", "constructor"].filter((method) => names.includes(method)), []);
    assert.deepEqual(encrypted, Object.fromEntries(names.map((method) => [method, false])));
    for (const { parameters } of Object.values(methods)) assert.equal(parameters.type, "object");
  });
});
