import assert from "node:assert/strict";
import {
  connect,
  event,
  method,
  NuropbTransportError,
  NuropbValidationError,
  serve,
  setupMesh,
} from "@nuropb/mesh";
import type { ConnectOptions, ServeOptions, StandardSchema } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { inspect } from "node:util";
import { urls } from "../support/env.ts";
import { failure, stage, within } from "./stage.ts";

/** What TypeScript would not let pass. */
const wrong = <Type>(value: unknown) => value as Type;

const SECRET = "s3cr3t";

/** Urls that cannot be used, and what the error says. */
const badUrls: [string, unknown, string][] = [
  ["no url", "nonsense", '"nonsense" is not a url'],
  ["an empty text", "", '"" is not a url'],
  ["another protocol", "http://localhost/nuropb", "must start with amqp:, amqps:, ws:, wss: or memory:"],
  ["a protocol with a password", `https://user:${SECRET}@localhost/nuropb`, "must start with"],
  ["no host", "amqp:///nuropb", "has no host"],
  ["no slashes", "amqp:localhost", "has no host"],
  ["a password and no slashes", `amqp:user:${SECRET}@localhost`, "has no host"],
  ["a password and no protocol", `user:${SECRET}@localhost/nuropb`, "must start with"],
  ["a password with an @ in it", `http://user:a@${SECRET}@localhost/nuropb`, "must start with"],
  ["a password with a / in it", `amqp://user:a/${SECRET}@localhost/nuropb`, "is not a url"],
  ["a query", `amqp://user:${SECRET}@localhost/nuropb?heartbeat=5`, "may not have a query"],
  ["a password in the query", `amqp://localhost/nuropb?password=${SECRET}`, "may not have a query"],
  ["a fragment", "amqp://localhost/nuropb#a", "may not have a query"],
  ["a bad escape in the user", "amqp://%zz@localhost/nuropb", "has a % that starts no escape"],
  [
    "a bad escape in the password",
    `amqp://user:${SECRET}%zz@localhost/nuropb`,
    "has a % that starts no escape",
  ],
  ["a bad escape in the path", "amqp://localhost/%", "has a % that starts no escape"],
  ["a bad port", `amqp://user:${SECRET}@localhost:99999/nuropb`, "is not a url"],
];

const connectOptions: [string, unknown, string][] = [
  ...[0, -1, 1.5, NaN, Infinity, "5", 2 ** 31, {}].flatMap((value) =>
    ["connectTimeout", "heartbeat", "confirmTimeout", "maxPending", "maxMessageSize"].map((
      option,
    ): [string, unknown, string] => [
      `${option} of ${inspect(value)}`,
      { [option]: value },
      `${option} must be`,
    ])
  ),
  ["replies of another kind", { replies: "carrier pigeon" }, '"carrier pigeon"'],
  ["declare that is no boolean", { declare: "no" }, '"no"'],
  ["name that is no text", { name: 5 }, "but is 5"],
  ["logger without functions", { logger: {} }, "logger must have a function debug"],
  [
    "logger without error",
    { logger: { debug() {}, info() {}, warn() {} } },
    "logger must have a function error",
  ],
  ["logger that is null", { logger: null }, "logger must have a function debug"],
  ["logger that is a text", { logger: "console" }, "logger must have a function debug"],
];

const instance = { work() {} };

const serveOptions: [string, unknown, string][] = [
  ...[0, -1, 1.5, NaN, "5", 65_536].map((concurrency): [string, unknown, string] => [
    `concurrency of ${inspect(concurrency)}`,
    { concurrency },
    "concurrency must be a whole number from 1 to 65535",
  ]),
  ...[-1, 1.5, NaN, "5", 2 ** 31].map((drainTimeout): [string, unknown, string] => [
    `drainTimeout of ${inspect(drainTimeout)}`,
    { drainTimeout },
    "drainTimeout must be a whole number from 0 to 2147483647",
  ]),
  ["queueType of another kind", { queueType: "stream" }, '"stream"'],
  ["name that is empty", { name: "" }, 'but is ""'],
  ["name that is no text", { name: 5 }, "but is 5"],
  ["name of 246 bytes", { name: "é".repeat(123) }, "at most 245 bytes"],
  ["methods that the instance does not have", { methods: { missing: {} } }, '"missing"'],
  ["methods that nobody may call", { methods: { constructor: {} } }, '"constructor"'],
  [
    "methods with params that are no schema",
    { methods: { work: { params: { type: "object" } } } },
    "methods.work.params",
  ],
  ["methods with params that are null", { methods: { work: { params: null } } }, "methods.work.params"],
  [
    "methods with a description that is no text",
    { methods: { work: { description: 5 } } },
    "methods.work.description",
  ],
  ["methods with hidden that is no boolean", { methods: { work: { hidden: "yes" } } }, "methods.work.hidden"],
  ["events without a function", { events: { "a.b": "handler" } }, 'events["a.b"] must be a function'],
  ["events with an empty topic", { events: { "": () => {} } }, "topic"],
  ["events with a topic of 256 bytes", { events: { ["x".repeat(256)]: () => {} } }, "at most 255 bytes"],
  ["mesh that connect did not give", { mesh: {} }, "mesh must be what connect() gave"],
  ["logger without functions", { logger: {} }, "logger must have a function debug"],
];

const unservable: [string, unknown, string][] = [
  ["nothing", undefined, "but is undefined"],
  ["null", null, "but is null"],
  ["a text", "service", '"service"'],
  ["a class", class Shop {}, "a function"],
  ["an object without class or name", {}, "options.name must be given"],
  ["an object without prototype or name", Object.create(null), "options.name must be given"],
  ["an instance of a class without a name", new (class {})(), "options.name must be given"],
  [
    "a decorator with an empty topic",
    new (class Listener {
      @event("")
      on() {}
    })(),
    "topic",
  ],
  [
    "a decorator with params that are no schema",
    new (class Worker {
      @method({ params: wrong<StandardSchema<never>>({}) })
      work() {}
    })(),
    "methods.work.params",
  ],
];

async function assertInvalid(operation: () => Promise<unknown>, text: string) {
  const error = await failure(NuropbValidationError, () => within(operation(), 2_000));
  assert.equal(error.code, "INVALID_ARGUMENT");
  assert.ok(error.message.includes(text), error.message);
}

describe("a url is refused that has", () => {
  for (const [what, url, text] of badUrls) {
    it(what, async () => {
      for (
        const operation of [
          () => connect(wrong(url)),
          () => connect(["memory:", wrong(url)]),
          () => serve(instance, { url: wrong(url), name: "service" }),
          () => setupMesh(wrong(url)),
        ]
      ) {
        const error = await failure(NuropbTransportError, () => within<unknown>(operation(), 2_000));
        assert.equal(error.code, "INVALID_URL");
        assert.ok(error.message.includes(text), error.message);
        assert.ok(!inspect(error, { depth: 10 }).includes(SECRET), "the password stays secret");
      }
    });
  }

  for (const url of [5, {}, [], [5]]) {
    it(`a value that is no text: ${inspect(url)}`, async () => {
      const reason = await within(connect(wrong(url))).then(
        async (mesh) => {
          await mesh.close();
          return undefined;
        },
        (error: unknown) => error,
      );
      assert.ok(
        reason instanceof NuropbValidationError || reason instanceof NuropbTransportError,
        inspect(reason),
      );
      assert.match(reason.code, /^INVALID_(ARGUMENT|URL)$/);
    });
  }
});

for (const { name, url } of urls()) {
  describe(`refused on ${name} before anything is sent is`, () => {
    const open = stage(url);

    for (const [what, options, text] of connectOptions) {
      it(`a connection with a ${what}`, () =>
        assertInvalid(() => open.mesh(wrong<ConnectOptions>(options)), text));
    }

    for (const [what, options, text] of serveOptions) {
      it(`a service with a ${what}`, () =>
        assertInvalid(() => open.service(instance, wrong<ServeOptions<typeof instance>>(options)), text));
    }

    for (const [what, value, text] of unservable) {
      it(`a service that is ${what}`, () => assertInvalid(() => serve(wrong<object>(value), { url }), text));
    }
  });

  describe(`a mesh on ${name}`, () => {
    const open = stage(url);

    it("takes every option at its limits", async () => {
      const logger = { debug() {}, info() {}, warn() {}, error() {} };
      const mesh = await open.mesh({
        connectTimeout: 2 ** 31 - 1,
        heartbeat: 1_000,
        confirmTimeout: 2 ** 31 - 1,
        maxPending: 1,
        maxMessageSize: 2 ** 31 - 1,
        name: "",
        declare: true,
        replies: "queue",
        logger,
      });
      const service = await open.service({ work: () => "done" }, {
        concurrency: 65_535,
        drainTimeout: 0,
        queueType: "classic",
        version: "",
        methods: { work: {} },
        events: {},
      });
      assert.equal(await mesh.request(service.name, "work", {}, { ttl: 2 ** 31 - 1 }), "done");
    });

    it("works with answers in a queue of its own", async () => {
      const mesh = await open.mesh({ replies: "queue" });
      const service = await open.service({ echo: (params: unknown) => params }, { replies: "queue" });
      const numbers = Array.from({ length: 50 }, (_, number) => ({ number }));
      const answers = await Promise.all(numbers.map((params) => mesh.request(service.name, "echo", params)));
      assert.deepEqual(answers, numbers);
      assert.deepEqual(await service.mesh.request(service.name, "echo", { own: true }), { own: true });
    });

    it("leaves the options that it is given as they are", async () => {
      const options = Object.freeze({ heartbeat: 5_000, tls: Object.freeze({}) });
      const mesh = await open.mesh(options);
      const frozen = Object.freeze({
        methods: Object.freeze({ work: Object.freeze({ description: "works" }) }),
      });
      const service = await open.service({ work: () => "done" }, frozen);
      assert.equal(await mesh.request(service.name, "work"), "done");
    });
  });
}
