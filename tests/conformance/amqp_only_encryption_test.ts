import assert from "node:assert/strict";
import { NuropbMessageError } from "@nuropb/mesh";
import { afterAll, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { CallerKeys } from "../../src/wire/caller_keys.ts";
import { importPublicKey } from "../../src/wire/encryption.ts";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { Management, vhostOf } from "./management.ts";
import { eventually, failure, signal, stage, within } from "./stage.ts";
import { makeKeys } from "./support_keys.ts";
import { drain } from "./support_letters.ts";
import { Log } from "./support_log.ts";

const url = rabbitmqUrl();
const api = managementUrl();
const SECRET = "the launch code";
const id = "0123456789abcdef0123456789abcdef";

const bytes = (text: string) => new TextEncoder().encode(text);
const headers = (type: string, encrypted: string) => ({
  nuropb_protocol: "0.1.1",
  nuropb_version: "0.1.8",
  nuropb_type: type,
  trace_id: "t",
  encrypted,
});

/** The method of a plain call, else what the message is. */
function kindOf(body: string): string {
  const { method, tag } = JSON.parse(body) as { method?: string; tag: string };
  return method ?? tag;
}

if (url !== undefined && api !== undefined) {
  const management = new Management(api, vhostOf(url));

  describe("what RabbitMQ gets to see of encrypted calls", () => {
    const open = stage(url);
    const trace = uniqueName("trace");
    const keys = [makeKeys(), makeKeys()] as const;

    const setTracing = (tracing: boolean) => management.call("PUT", management.path("vhosts"), { tracing });

    beforeAll(async () => {
      await management.call("PUT", management.path("queues", trace), { durable: true });
      const binding = `${management.path("bindings")}/e/amq.rabbitmq.trace/q/${trace}`;
      await management.call("POST", binding, { routing_key: "publish.#" });
      await setTracing(true);
    });
    beforeEach(() => management.purge(trace));
    afterAll(async () => {
      await setTracing(false);
      await management.call("DELETE", management.path("queues", trace));
    });

    /**
     * Every body that was published since the test began, up to the event that ends it. By their kind, since what
     * comes from several channels has no order.
     */
    async function seen(publish: (topic: string, event: unknown) => Promise<void>) {
      const end = uniqueName("end");
      await publish(end, null);
      const taken: string[] = [];
      await eventually(async () => {
        taken.push(...(await management.get(trace, 1_000)).map(({ payload }) => payload));
        return taken.some((payload) => payload.includes(end));
      }, Boolean);
      return taken.filter((payload) => !payload.includes(end))
        .map((body) => ({ body, kind: /^[\w+/]+=*\.[\w+/]+=*$/.test(body) ? "encrypted" : kindOf(body) }))
        .toSorted((one, other) => one.kind.localeCompare(other.kind));
    }

    const vault = (privatePem: string, name = uniqueName("service")) =>
      open.service({
        secret: (params: unknown) => params,
        fail() {
          throw new Error(SECRET);
        },
        open: (params: unknown) => params,
      }, {
        name,
        privateKey: privatePem,
        methods: { secret: { encrypted: true }, fail: { encrypted: true } },
      });

    it("is neither params nor results nor errors, from the first call on", async () => {
      const service = await vault(keys[0].privatePem);
      const mesh = await open.mesh();
      const params = { secret: SECRET };
      assert.deepEqual(await mesh.request(service.name, "secret", params), params);
      await mesh.requestRaw(service.name, "fail", params);
      await mesh.command(service.name, "secret", params);
      assert.deepEqual(await mesh.request(service.name, "open", params, { encrypted: true }), params);
      const messages = await seen((topic, event) => mesh.publish(topic, event));
      assert.ok(!messages.some(({ body }) => body.includes(SECRET)), JSON.stringify(messages));
      assert.deepEqual(messages.map(({ kind }) => kind), [
        ...new Array(7).fill("encrypted"),
        "nuropb_describe",
        "response",
      ]);
      assert.equal(new Set(messages.map(({ body }) => body)).size, messages.length, "no two are alike");
    });

    it("is everything of a call that is not encrypted: the test above would see it", async () => {
      const service = await vault(keys[0].privatePem);
      const mesh = await open.mesh();
      await mesh.request(service.name, "open", { secret: SECRET });
      const messages = await seen((topic, event) => mesh.publish(topic, event));
      assert.deepEqual(messages.map(({ kind }) => kind), ["nuropb_describe", "open", "response", "response"]);
      assert.equal(messages.filter(({ body }) => body.includes(SECRET)).length, 2);
    });

    it("is one question for the new key when the service has changed it", async () => {
      const before = await vault(keys[0].privatePem);
      const mesh = await open.mesh();
      await mesh.request(before.name, "secret");
      await before.close();
      await vault(keys[1].privatePem, before.name);
      await management.purge(trace);
      assert.deepEqual(await mesh.request(before.name, "secret", { a: 1 }), { a: 1 });
      assert.deepEqual(await mesh.request(before.name, "secret", { a: 2 }), { a: 2 });
      const messages = await seen((topic, event) => mesh.publish(topic, event));
      const kinds = messages.map(({ kind }) => kind);
      assert.deepEqual(kinds, [...new Array(5).fill("encrypted"), "nuropb_describe", "response", "response"]);
    });
  });

  describe("an encrypted message on RabbitMQ that cannot be read", () => {
    const open = stage(url);
    const [own, other] = [makeKeys(), makeKeys()];

    const request = (service: string, method = "work") =>
      JSON.stringify({
        tag: "request",
        service,
        method,
        params: {},
        correlation_id: id,
        context: {},
        trace_id: null,
      });

    /** Encrypts as a caller does, with one key for all. */
    async function sealer(publicPem: string) {
      const publicKey = await importPublicKey(publicPem);
      const callerKeys = new CallerKeys();
      return async (text: string) =>
        new TextDecoder().decode((await callerKeys.encrypt(bytes(text), publicKey)).body);
    }

    const changed = (body: string, at: number) =>
      body.slice(0, at) + (body[at] === "A" ? "B" : "A") + body.slice(at + 1);

    const unreadable: [
      string,
      (seal: (text: string) => Promise<string>, service: string) => string | Promise<string>,
    ][] = [
      [
        "is encrypted to another key",
        async (_seal, service) => (await sealer(other.publicPem))(request(service)),
      ],
      ["has another ciphertext", async (seal, service) => {
        const body = await seal(request(service));
        return changed(body, body.length - 100);
      }],
      ["has another key", async (seal, service) => changed(await seal(request(service)), 100)],
      ["has the key of another message", async (seal, service) => {
        const [, token] = (await seal(request(service))).split(".");
        const [firstPart] = (await (await sealer(own.publicPem))("{}")).split(".");
        return `${firstPart}.${token}`;
      }],
      ["has no key", async (seal, service) => (await seal(request(service))).replace(/^[^.]+/, "")],
      ["has no ciphertext", async (seal, service) => (await seal(request(service))).replace(/\..*$/, ".")],
      ["is cut short", async (seal, service) => (await seal(request(service))).slice(0, -8)],
      ["is plain", (_seal, service) => request(service)],
      ["is empty", () => ""],
      ["is noise", () => "\u0000.\u0001"],
    ];

    /** Publishes as a caller with a queue for answers of its own does, and gives the answers. */
    async function asked(service: string, bodies: string[], type = "request") {
      const replies = `nuropb-${uniqueName("raw")}-rq`;
      await management.call("PUT", management.path("queues", replies), { durable: true });
      for (const body of bodies) {
        const properties = { correlation_id: id, reply_to: replies, headers: headers(type, "yes") };
        assert.ok(
          await management.publish("nuropb-rpc-exchange", { routing_key: service, properties }, body),
        );
      }
      return {
        async answers(count: number) {
          const taken: { payload: string; encrypted: unknown }[] = [];
          await eventually(async () => {
            for (const { payload, properties } of await management.get(replies, 100)) {
              taken.push({ payload, encrypted: properties.headers?.["encrypted"] });
            }
            return taken.length;
          }, (length) => length >= count);
          return taken;
        },
        close: () => management.call("DELETE", management.path("queues", replies)),
      };
    }

    async function vault() {
      const runs: unknown[] = [];
      const log = new Log();
      const { name } = await open.service({ work: (params: unknown) => runs.push(params) }, {
        privateKey: own.privatePem,
        concurrency: 1,
        logger: log,
      });
      return { name, runs, log, mesh: await open.mesh(), seal: await sealer(own.publicPem) };
    }

    it("looks the same from outside, whatever is wrong with it, and the service goes on", async () => {
      const { name, runs, log, mesh, seal } = await vault();
      const bodies = await Promise.all(unreadable.map(([, make]) => make(seal, name)));
      // A good one first, so that the service knows the key of those that were tampered with.
      const raw = await asked(name, [await seal(request(name)), ...bodies]);
      const [good, ...refusals] = await raw.answers(bodies.length + 1);
      assert.equal(good?.encrypted, "yes");
      for (const [index, { payload, encrypted }] of refusals.entries()) {
        const { error, result, correlation_id } = JSON.parse(payload);
        assert.deepEqual([encrypted, result, correlation_id], ["", null, id], unreadable[index]![0]);
        assert.deepEqual(error, {
          error: "NuropbMessageError",
          description: "The encrypted payload cannot be decrypted",
        }, unreadable[index]![0]);
      }
      assert.equal(new Set(refusals.map(({ payload }) => payload)).size, 1);
      assert.equal(log.of("warn").length, bodies.length);
      assert.deepEqual(await mesh.request(name, "work", { a: 1 }, { encrypted: true }), 2);
      assert.deepEqual(runs, [{}, { a: 1 }]);
      assert.deepEqual(await drain(mesh, name), []);
      await raw.close();
    });

    it("goes to the dead letters as it came, when it is a command", async () => {
      const { name, runs, mesh, seal } = await vault();
      const bodies = await Promise.all(unreadable.map(([, make]) => make(seal, name)));
      await (await asked(name, bodies, "command")).close();
      const letters = await eventually(() => drain(mesh, name), ({ length }) => length > 0);
      assert.deepEqual(letters.map(({ message }) => new TextDecoder().decode(message.body)), bodies);
      for (const { type, reason, count, message } of letters) {
        assert.deepEqual([type, reason, count, message.headers["encrypted"]], [
          "command",
          "rejected",
          1,
          "yes",
        ]);
      }
      assert.deepEqual(runs, []);
    });

    it("may be an event that Python marks so and sends plain: it is handled", async () => {
      const topic = uniqueName("topic");
      const came = signal<unknown>();
      await open.service({ work() {} }, {
        privateKey: own.privatePem,
        events: { [topic]: (event) => came.send(event) },
      });
      const event = {
        tag: "event",
        topic,
        event: { a: 1 },
        context: {},
        correlation_id: id,
        trace_id: null,
        target: null,
      };
      const properties = { correlation_id: id, headers: headers("event", "yes") };
      await management.publish(
        "nuropb-events-exchange",
        { routing_key: topic, properties },
        JSON.stringify(event),
      );
      assert.deepEqual(await within(came.promise), { a: 1 });
    });

    it("fails the caller when it is an answer that was put in plain, unless that is an error", async () => {
      const target = uniqueName("service");
      const service = await open.service({ work() {} }, { name: target, privateKey: own.privatePem });
      const mesh = await open.mesh();
      await mesh.describe(target);
      await service.close();
      const options = { encrypted: true, ttl: 5_000 };
      const outcome = failure(NuropbMessageError, () => mesh.request(target, "work", {}, options));
      let reply: { reply_to?: string; correlation_id?: string } | undefined;
      await eventually(
        async () => reply ??= (await management.get(`nuropb-${target}-sq`, 1))[0]?.properties,
        Boolean,
      );
      const body = {
        tag: "response",
        result: "forged",
        error: null,
        correlation_id: reply!.correlation_id,
        context: {},
      };
      await open.service({ work() {} }, { name: target, privateKey: own.privatePem });
      await management.publish("", {
        routing_key: reply!.reply_to!,
        properties: { correlation_id: reply!.correlation_id!, headers: headers("response", "") },
      }, JSON.stringify(body));
      assert.equal((await within(outcome)).message, `${target}.work answered an encrypted request in plain`);
    });
  });
}
