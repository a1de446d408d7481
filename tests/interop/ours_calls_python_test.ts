import assert from "node:assert/strict";
import {
  connect,
  type Mesh,
  NuropbAuthenticationError,
  NuropbAuthorizationError,
  NuropbCallAgainReject,
  NuropbDeprecatedError,
  NuropbException,
  NuropbHandlingError,
  NuropbNotDeliveredError,
  NuropbTimeoutError,
  NuropbValidationError,
} from "@nuropb/mesh";
import { afterAll, beforeAll, it } from "@std/testing/bdd";
import { uniqueName } from "../support/env.ts";
import { PythonPeer } from "./python_peer.ts";
import { brokerUrl, describeWithPython, LogRecorder, newTrace, receivedBy, rejection } from "./support.ts";

/** The Python service, as its TypeScript callers see it. */
interface Orders {
  add(params: { a: number; b?: number }): number;
  slow(params?: { sleep?: number }): Promise<string>;
  echo<Value>(params: { value: Value }): Value;
}

describeWithPython("a caller of ours and a Python service", () => {
  let python: PythonPeer;
  let mesh: Mesh;
  let log: LogRecorder;

  beforeAll(async () => {
    log = new LogRecorder();
    [python, mesh] = await Promise.all([
      PythonPeer.start({ url: brokerUrl(), service: uniqueName("orders") }),
      connect(brokerUrl(), { logger: log }),
    ]);
  });

  afterAll(async () => {
    await mesh?.close();
    await python?.close();
  });

  const call = (method: string, params: object = {}) => mesh.request(python.service, method, params);

  /** The error of a call, of this class. */
  const failure = async (method: string, params: object = {}): Promise<NuropbException> => {
    const error = await rejection(call(method, params));
    assert.ok(error instanceof NuropbException, String(error));
    return error;
  };

  it("get the result of a synchronous method, with Python's default for what is left out", async () => {
    assert.equal(await call("add", { a: 1, b: 5 }), 6);
    assert.equal(await call("add", { a: 1 }), 3);
    assert.equal(await call("nothing"), null);
  });

  it("get the result of an asynchronous method", async () => {
    assert.equal(await call("slow", { sleep: 0.01 }), "slept");
  });

  it("talk through a typed proxy as well", async () => {
    const orders = mesh.service<Orders>(python.service);
    assert.equal(await orders.add({ a: 40 }), 42);
    assert.equal(await orders.slow({ sleep: 0 }), "slept");
  });

  it("carry any JSON there and back unchanged", async () => {
    const value = {
      text: 'héllo ✓ 𝄞 \0 "quoted" \\',
      numbers: [0, -1.5, 2 ** 53 - 1],
      deep: [[{ no: null }]],
    };
    assert.deepEqual(await call("echo", { value }), value);
  });

  it("agree on the type of each value", async () => {
    assert.deepEqual(
      await call("kinds", { int: 1, float: 1.5, large: 1e21, text: "1", list: [], none: null }),
      {
        int: "int",
        float: "float",
        // JavaScript writes it with an exponent, which is a float to Python.
        large: "float",
        text: "str",
        list: "list",
        none: "NoneType",
      },
    );
  });

  it("answer many requests that are under way at once, each with its own result", async () => {
    const numbers = Array.from({ length: 100 }, (_, index) => index);
    const sums = await Promise.all(numbers.map((a) => call("add", { a, b: 1 })));
    assert.deepEqual(sums, numbers.map((a) => a + 1));
  });

  it("read what Python's JSON has beyond the standard", async () => {
    assert.deepEqual(await call("types"), {
      dt: "2024-01-02T03:04:05.678901Z",
      dtz: "2024-01-02T03:04:05+00:00Z",
      d: "2024-01-02Z",
      t: "03:04:05Z",
      td: "1 day, 0:00:02",
      dec: "12.30",
      dc: { id: "o", qty: 1, when: "2024-01-01T00:00:00Z" },
      set: "{1}",
      nan: NaN,
      inf: Infinity,
      minus_inf: -Infinity,
      big: 2 ** 70,
      uni: "héllo ✓ \0",
      tuple: [1, 2],
      words: "NaN, Infinity",
    });
  });

  it("keep the name of an exception that a synchronous method raises", async () => {
    const error = await failure("boom");
    assert.equal(error.name, "NuropbException");
    assert.equal(error.code, "HANDLER_FAILED");
    assert.deepEqual(error.remote, { name: "ValueError", description: "bad value" });
    assert.match(error.message, /boom:ValueError: bad value$/);
  });

  it("keep the name of an exception that has no text, lines, or a class of the service's own", async () => {
    assert.deepEqual((await failure("boom", { text: "" })).remote, { name: "ValueError", description: "" });
    assert.deepEqual((await failure("locked")).remote, {
      name: "OrderLocked",
      description: "o-1\nis locked: by Ann",
    });
  });

  it("keep the name of an exception that an asynchronous method raises", async () => {
    const error = await failure("aboom");
    assert.equal(error.name, "NuropbException");
    assert.deepEqual(error.remote, { name: "ValueError", description: "bad async value" });
    assert.equal(error.message, "bad async value");
  });

  it("turn each of NuroPb's exceptions into the class of that name", async () => {
    const cases = [
      ["verr", NuropbValidationError, "invalid input"],
      ["averr", NuropbValidationError, "invalid async input"],
      ["authn", NuropbAuthenticationError, "who are you"],
      ["authz", NuropbAuthorizationError, "not allowed"],
      ["depr", NuropbDeprecatedError, "old"],
    ] as const;
    for (const [method, ErrorClass, text] of cases) {
      const error = await failure(method);
      assert.ok(error instanceof ErrorClass, method);
      assert.deepEqual([error.message, error.remote?.name], [text, ErrorClass.name]);
    }
  });

  it("tell a missing or an unknown argument as Python's TypeError", async () => {
    for (const params of [{ zz: 1 }, {}]) {
      const { remote } = await failure("add", params);
      assert.equal(remote?.name, "TypeError");
      assert.match(remote.description, /^Orders\.add\(\)/);
    }
  });

  it("tell an unknown and a private method by a code", async () => {
    for (const method of ["nope", "_private"]) {
      const error = await failure(method);
      assert.ok(error instanceof NuropbHandlingError);
      assert.deepEqual([error.code, error.message], ["UNKNOWN_METHOD", `Unknown method ${method}`]);
    }
  });

  it("reach Python's hidden methods, which Python does not hide", async () => {
    assert.equal(await call("hidden"), "hidden but callable");
  });

  it("take the first of Python's two answers, and drop the second without a warning", async () => {
    const cases = [
      ["success", { result: { ok: 1 }, error: null }],
      ["asuccess", { result: { ok: 2 }, error: null }],
      ["verr", { result: null, error: { error: "NuropbValidationError", description: "invalid input" } }],
      ["aboom", { result: null, error: { error: "ValueError", description: "bad async value" } }],
    ] as const;
    for (const [method, expected] of cases) {
      const { result, error, correlationId } = await mesh.requestRaw(python.service, method);
      assert.deepEqual({ result, error }, expected, method);
      await log.until(
        1,
        ({ level, fields }) => level === "debug" && fields["correlationId"] === correlationId,
      );
      assert.deepEqual(log.lines.filter(({ level }) => level === "warn" || level === "error"), []);
    }
    assert.equal(await call("add", { a: 1 }), 3);
  });

  it("wait for the second delivery of a message that is to be called again", async () => {
    assert.equal(await call("again_once"), "second time");
    assert.equal(await call("aagain_once"), "second time");
  });

  it("get NuropbCallAgainReject when the second delivery asks again", async () => {
    const error = await failure("again_loop");
    assert.ok(error instanceof NuropbCallAgainReject);
    assert.equal(error.code, "CALL_AGAIN_REJECTED");
    assert.match(error.message, /^Rejecting second call again request/);
  });

  it("carry the context there and back, and its token to where Python looks for it", async () => {
    const context = { Authorization: "Bearer tok", tenant: { id: 7 } };
    const options = { context };
    assert.deepEqual(await mesh.request(python.service, "context_of", {}, options), context);
    assert.deepEqual(await mesh.request(python.service, "whoami", { x: 3 }, options), {
      sub: "u1",
      user_id: "u1",
      token: "Bearer tok",
    });
    assert.deepEqual((await mesh.requestRaw(python.service, "add", { a: 1 }, options)).context, context);
    assert.deepEqual((await failure("whoami")).remote, { name: "KeyError", description: "'Authorization'" });
  });

  it("carry the trace id there and back, and the time to live there", async () => {
    const traceId = newTrace();
    const response = await mesh.requestRaw(python.service, "add", { a: 1 }, { traceId, ttl: 7_000 });
    assert.equal(response.traceId, traceId);
    const [request, ...others] = await receivedBy(python, mesh, traceId);
    assert.equal(others.length, 0);
    assert.deepEqual(
      [request?.type, request?.ttl, request?.correlation_id],
      ["request", "7000", response.correlationId],
    );
  });

  it("do a command once, with its params, context and trace, and nobody answers", async () => {
    const traceId = newTrace();
    const dropped = log.lines.length;
    await mesh.command(python.service, "add", { a: 5 }, { context: { u: 1 }, traceId });
    const commands = await receivedBy(python, mesh, traceId);
    assert.equal(commands.length, 1);
    const { type, payload } = commands[0]!;
    assert.equal(type, "command");
    assert.deepEqual([payload["method"], payload["params"], payload["context"]], ["add", { a: 5 }, { u: 1 }]);
    assert.deepEqual(log.lines.slice(dropped), []);
  });

  it("are told apart from a service that nobody hosts, for requests and commands", async () => {
    const nobody = uniqueName("nobody");
    for (const call of [mesh.request(nobody, "greet"), mesh.command(nobody, "greet")]) {
      const error = await rejection(call);
      assert.ok(error instanceof NuropbNotDeliveredError);
      assert.equal(error.message, `Service ${nobody} not available. unable to call method greet`);
    }
  });

  it("do not wait longer than the ttl for a Python method that takes its time", async () => {
    const error = await rejection(mesh.request(python.service, "slow", { sleep: 0.5 }, { ttl: 50 }));
    assert.ok(error instanceof NuropbTimeoutError);
    assert.equal(await call("add", { a: 1 }), 3);
  });

  it("read Python's description into JSON Schema", async () => {
    const description = await mesh.describe(python.service);
    const { name, version, description: text, warnings, encryptedMethods, publicKey } = description;
    assert.deepEqual([name, version, text, warnings], [python.service, "1.2.3", "Orders service doc", []]);
    assert.equal(encryptedMethods, true);
    assert.match(publicKey ?? "", /^-----BEGIN PUBLIC KEY-----\n/);

    const { add, tag, whoami, secret, ...others } = description.methods;
    assert.deepEqual([add?.description, add?.requiresEncryption], ["adds two", false]);
    assert.deepEqual(add?.parameters, {
      type: "object",
      properties: { a: { type: "integer" }, b: { type: "integer", default: 2 } },
      required: ["a"],
    });
    // Python says of a list[str] that it is a str, and of an optional parameter's default that it is None.
    assert.deepEqual(Object.keys(tag?.parameters.properties ?? {}), ["names", "note", "price"]);
    assert.deepEqual(tag?.parameters.properties["price"], { type: "number", default: 0.5 });
    assert.deepEqual(tag?.parameters.required, ["names"]);
    assert.deepEqual(whoami?.parameters.properties, { x: { type: "integer", default: 1 } });
    assert.equal(secret?.requiresEncryption, true);
    for (const method of ["hidden", "_private", "_handle_event_"]) assert.ok(!(method in others), method);
  });

  it("get Python's answers in a queue of their own as well as by direct reply-to", async () => {
    await using queued = await connect(brokerUrl(), { replies: "queue" });
    const numbers = Array.from({ length: 10 }, (_, index) => index);
    const sums = await Promise.all(numbers.map((a) => queued.request(python.service, "add", { a, b: a })));
    assert.deepEqual(sums, numbers.map((a) => 2 * a));
    assert.equal(
      (await rejection(queued.request(python.service, "verr")) as Error).name,
      "NuropbValidationError",
    );
    assert.equal(await queued.request(python.service, "again_once", { key: "queued" }), "second time");
  });
});
