import assert from "node:assert/strict";
import {
  method,
  NuropbAuthenticationError,
  NuropbAuthorizationError,
  NuropbCallAgain,
  NuropbException,
  NuropbMessageError,
  NuropbNotDeliveredError,
  NuropbTimeoutError,
  NuropbValidationError,
} from "@nuropb/mesh";
import type { CallOptions, Context, DeadLetter, Mesh, PublishOptions, ServeOptions } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { failure, signal, stage, within } from "./stage.ts";
import { makeKeys } from "./support_keys.ts";
import { bodyOf, drain, nextLetter, textOf } from "./support_letters.ts";
import { Log } from "./support_log.ts";

const { privatePem: privateKey } = makeKeys();
const encrypted: CallOptions = { encrypted: true };
const SECRET = "the launch code";

class OrderLocked extends Error {
  override name = "OrderLocked";
}

/** A service with a method that insists on encryption, and one that does not. */
class Vault {
  readonly runs: unknown[][] = [];

  @method({ encrypted: true })
  secret(params: unknown): unknown {
    this.runs.push(["secret", params]);
    return params;
  }

  open(params: unknown): unknown {
    this.runs.push(["open", params]);
    return params;
  }

  @method({ encrypted: true })
  fail(params: unknown): never {
    this.runs.push(["fail", params]);
    throw new OrderLocked("it is locked: ü");
  }

  failOpen(params: unknown): never {
    this.runs.push(["failOpen", params]);
    throw new OrderLocked("it is locked");
  }
}

/** Whether a letter's message went out encrypted: so marked, and with nothing of it to be read. */
function isEncrypted(letter: DeadLetter): boolean {
  const { headers, body } = letter.message;
  const text = textOf(letter);
  const marked = headers["encrypted"] === "yes";
  const readable = body.length === 0 || text.includes("{") || text.includes(SECRET) ||
    text.includes("context");
  assert.equal(marked, !readable, `marked: ${marked}, but the body is ${text.slice(0, 80)}`);
  return marked;
}

for (const { name, url } of urls()) {
  describe(`encryption on ${name}`, () => {
    const open = stage(url);

    async function vault(options: ServeOptions<Vault> = { privateKey }) {
      const instance = new Vault();
      const service = await open.service(instance, { concurrency: 1, ...options });
      return { service: service.name, runs: instance.runs, mesh: await open.mesh() };
    }

    /** How a command of these options goes out: from what is left of it in the dead letters. */
    async function sentAs(mesh: Mesh, service: string, failing: "fail" | "failOpen", options?: CallOptions) {
      await mesh.command(service, failing, { secret: SECRET }, options);
      const [letter, ...others] = await drain(mesh, service);
      assert.ok(letter !== undefined && others.length === 0);
      assert.equal(letter.type, "command");
      return isEncrypted(letter) ? "encrypted" : "plain";
    }

    it("is done by the caller on its own, from the first call on, where the method wants it", async () => {
      const { mesh, service, runs } = await vault();
      const params = { secret: SECRET, list: [1, null, "ü😀"] };
      assert.deepEqual(await mesh.request(service, "secret", params), params);
      assert.deepEqual(await mesh.service<Vault>(service).secret(params), params);
      assert.deepEqual(runs, [["secret", params], ["secret", params]]);
    });

    it("is done by the callers within a method, too", async () => {
      const { mesh, service } = await vault();
      const outer = await open.service({
        ask: async (params: object, ctx: Context) => await ctx.mesh.request(service, "secret", params),
      });
      assert.deepEqual(await mesh.request(outer.name, "ask", { a: 1 }), { a: 1 });
    });

    it("is insisted on: a plain request is refused and not run", async () => {
      const { mesh, service, runs } = await vault();
      const error = await failure(
        NuropbMessageError,
        () => mesh.request(service, "secret", {}, { encrypted: false }),
      );
      assert.equal(error.remote?.name, "NuropbMessageError");
      assert.match(error.message, new RegExp(`^${service}\\.secret takes encrypted messages alone`));
      assert.deepEqual(runs, []);
    });

    it("is insisted on: a plain command goes to the dead letters, once, and is not run", async () => {
      const { mesh, service, runs } = await vault();
      await mesh.command(service, "secret", { a: 1 }, { encrypted: false });
      const letters = await drain(mesh, service);
      assert.deepEqual(
        letters.map((letter) => [letter.type, letter.reason, letter.count, bodyOf(letter)["params"]]),
        [
          ["command", "rejected", 1, { a: 1 }],
        ],
      );
      assert.deepEqual(runs, []);
    });

    it("makes of commands what nobody can read, where it is wanted by the method or the caller", async () => {
      const { mesh, service, runs } = await vault();
      assert.equal(await sentAs(mesh, service, "fail"), "encrypted");
      assert.equal(await sentAs(mesh, service, "fail", encrypted), "encrypted");
      assert.equal(await sentAs(mesh, service, "failOpen", encrypted), "encrypted");
      assert.equal(await sentAs(mesh, service, "failOpen"), "plain");
      assert.equal(await sentAs(mesh, service, "failOpen", { encrypted: false }), "plain");
      const params = { secret: SECRET };
      assert.deepEqual(runs, [
        ["fail", params],
        ["fail", params],
        ["failOpen", params],
        ["failOpen", params],
        ["failOpen", params],
      ]);
    });

    it("makes of requests what nobody can read, and they stay so when they expire", async () => {
      const target = uniqueName("service");
      const service = await open.service(new Vault(), { name: target, privateKey });
      const mesh = await open.mesh();
      await mesh.describe(target);
      await service.close();
      await failure(
        NuropbTimeoutError,
        () => mesh.request(target, "secret", { secret: SECRET }, { ttl: 100 }),
      );
      await failure(
        NuropbTimeoutError,
        () => mesh.request(target, "open", { secret: SECRET }, { ttl: 100, ...encrypted }),
      );
      await failure(NuropbTimeoutError, () => mesh.request(target, "open", { secret: SECRET }, { ttl: 100 }));
      await using letters = mesh.deadLetters();
      for (const expected of [true, true, false]) {
        const letter = await nextLetter(letters, target);
        assert.deepEqual([letter.type, letter.reason, isEncrypted(letter)], ["request", "expired", expected]);
        letter.discard();
      }
    });

    it("is possible for any method of a service with a key", async () => {
      const { mesh, service } = await vault();
      assert.deepEqual(await mesh.request(service, "open", { a: 1 }, encrypted), { a: 1 });
      assert.deepEqual(await mesh.service<Vault>(service, encrypted).open({ a: 2 }), { a: 2 });
      const wire = await mesh.request<Record<string, unknown>>(service, "nuropb_describe", {}, encrypted);
      assert.equal(wire["service_name"], service);
    });

    it("does not hide the kind of an error from the caller", async () => {
      const { mesh, service } = await vault();
      const error = await failure(NuropbException, () => mesh.request(service, "fail"));
      assert.deepEqual(error.remote, { name: "OrderLocked", description: "it is locked: ü" });
      const raw = await mesh.requestRaw(service, "missing", {}, encrypted);
      assert.deepEqual(raw.error, { error: "NuropbHandlingError", description: "Unknown method missing" });
    });

    it("is refused before anything is sent, where the service has no key", async () => {
      const { mesh, runs, service } = await plainService();
      for (const call of [mesh.request.bind(mesh), mesh.requestRaw.bind(mesh), mesh.command.bind(mesh)]) {
        const error = await failure(NuropbMessageError, () => call(service, "open", {}, encrypted));
        assert.equal(error.remote, undefined);
        assert.equal(error.message, `${service} has no public key, so nothing can be encrypted to it`);
      }
      assert.deepEqual(await drain(mesh, service), []);
      assert.deepEqual(runs, []);
      assert.equal((await mesh.describe(service)).publicKey, null);
    });

    async function plainService() {
      const runs: unknown[] = [];
      const { name: service } = await open.service({ open: (params: unknown) => void runs.push(params) }, {
        concurrency: 1,
      });
      return { service, runs, mesh: await open.mesh() };
    }

    it("fails for a service that nobody hosts as any call does", async () => {
      const mesh = await open.mesh();
      const nobody = uniqueName("nobody");
      for (const call of [mesh.request.bind(mesh), mesh.command.bind(mesh)]) {
        const error = await failure(NuropbNotDeliveredError, () => call(nobody, "secret", {}, encrypted));
        assert.equal(error.message, `Service ${nobody} not available. unable to call method secret`);
      }
    });

    it("does not make a call wait longer than its ttl for a service that is away", async () => {
      const target = uniqueName("service");
      await (await open.service(new Vault(), { name: target, privateKey })).close();
      const mesh = await open.mesh({ confirmTimeout: 300 });
      const started = performance.now();
      await failure(NuropbTimeoutError, () => mesh.request(target, "secret", {}, { ttl: 200 }));
      await failure(NuropbTimeoutError, () => mesh.command(target, "secret", {}, encrypted));
      const own = new Error("enough");
      const options = { signal: AbortSignal.abort(own) };
      assert.equal(await mesh.request(target, "secret", {}, options).catch((error: unknown) => error), own);
      const took = performance.now() - started;
      assert.ok(took < 2_000, `${took} ms`);
    });

    it("lets a command get into the queue of a service that is away at once, when it need not be", async () => {
      const target = uniqueName("service");
      await (await open.service(new Vault(), { name: target, privateKey })).close();
      const mesh = await open.mesh();
      await within(mesh.command(target, "open", { a: 1 }, { encrypted: false }), 1_000);
      const instance = new Vault();
      await open.service(instance, { name: target, privateKey, concurrency: 1 });
      assert.deepEqual(await mesh.request(target, "open", { a: 2 }), { a: 2 });
      assert.deepEqual(instance.runs, [["open", { a: 1 }], ["open", { a: 2 }]]);
    });

    it("is refused for an event at its sender, with a clear error", async () => {
      const mesh = await open.mesh();
      const topic = uniqueName("topic");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      const error = await failure(
        NuropbValidationError,
        () => mesh.publish(topic, { secret: SECRET }, encrypted as PublishOptions),
      );
      assert.equal(error.code, "INVALID_ARGUMENT");
      assert.match(error.message, /encrypted must be false for an event/);
      await mesh.publish(topic, "plain", { encrypted: false } as PublishOptions);
      assert.equal((await within(subscription.next())).value?.event, "plain");
    });

    it("goes together with the warning of a deprecated method", async () => {
      const log = new Log();
      const service = await open.service({ old: () => "done" }, {
        privateKey,
        methods: { old: { encrypted: true, deprecated: "use new" } },
      });
      const mesh = await open.mesh({ logger: log });
      const { result, warning } = await mesh.requestRaw(service.name, "old");
      assert.deepEqual([result, warning], ["done", "use new"]);
      assert.deepEqual(log.of("warn").map(({ fields }) => fields["warning"]), ["use new"]);
    });

    it("goes together with being called again", async () => {
      const runs: [boolean, unknown][] = [];
      const again = (params: unknown, { redelivered }: Context) => {
        runs.push([redelivered, params]);
        if (!redelivered) throw new NuropbCallAgain("busy");
        return params;
      };
      const methods = { again: { encrypted: true } };
      // The second instance has never seen the key of the first one's messages.
      const { name: target } = await open.service({ again }, { privateKey, methods, concurrency: 1 });
      const mesh = await open.mesh();
      assert.deepEqual(await mesh.request(target, "again", { a: 1 }), { a: 1 });
      await open.service({ again }, { name: target, privateKey, methods, concurrency: 1 });
      const numbers = Array.from({ length: 10 }, (_, number) => ({ number }));
      const answers = await Promise.all(numbers.map((params) => mesh.request(target, "again", params)));
      assert.deepEqual(answers, numbers);
      assert.equal(runs.filter(([redelivered]) => redelivered).length, 11);
      assert.equal(runs.length, 22);
    });

    it("carries a megabyte each way", async () => {
      const { mesh, service } = await vault();
      const params = { big: "ü".repeat(500_000) + "x".repeat(50_000) };
      assert.deepEqual(await mesh.request(service, "secret", params), params);
      await mesh.command(service, "secret", params);
      assert.deepEqual(await mesh.request(service, "open", { big: 1 }), { big: 1 });
    });

    it("refuses what is larger than maxMessageSize only when it is encrypted", async () => {
      const { service } = await vault();
      const mesh = await open.mesh({ maxMessageSize: 10_000 });
      const params = { big: "x".repeat(7_000) };
      assert.deepEqual(await mesh.request(service, "open", params), params);
      for (const call of [mesh.request.bind(mesh), mesh.command.bind(mesh)]) {
        const error = await failure(NuropbMessageError, () => call(service, "open", params, encrypted));
        assert.deepEqual([error.code, error.remote], ["MESSAGE_TOO_LARGE", undefined]);
      }
    });

    it("keeps token and claims inside", async () => {
      const claims: Record<string, unknown> = {
        "t0ken-a": { sub: "Ann", scope: "read" },
        "t0ken-b": { sub: "Bob" },
      };
      const got = signal<unknown>();
      const service = await open.service({
        pay: (params: unknown, ctx: Context) => got.send([params, ctx.claims]),
      }, {
        concurrency: 1,
        privateKey,
        authorize: (token) => claims[token],
        methods: { pay: { encrypted: true, scopes: ["read"] } },
      });
      const mesh = await open.mesh();
      const as = (token: string) => ({ context: { Authorization: `Bearer ${token}` } });
      await mesh.request(service.name, "pay", { a: 1 }, as("t0ken-a"));
      assert.deepEqual(await within(got.promise), [{ a: 1 }, { sub: "Ann", scope: "read" }]);
      await failure(NuropbAuthorizationError, () => mesh.request(service.name, "pay", {}, as("t0ken-b")));
      await failure(NuropbAuthenticationError, () => mesh.request(service.name, "pay", {}, as("t0ken-c")));
      await mesh.command(service.name, "pay", {}, as("t0ken-c"));
      const [letter] = await drain(mesh, service.name);
      assert.ok(letter !== undefined && isEncrypted(letter) && !textOf(letter).includes("t0ken"));
    });
  });
}
