import assert from "node:assert/strict";
import { inspect } from "node:util";
import { NuropbMessageError, NuropbValidationError } from "@nuropb/mesh";
import type { MethodOptions, PrivateKeyInput } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { uniqueName, urls } from "../support/env.ts";
import { eventually, failure, reasonOf, signal, stage, within } from "./stage.ts";
import { makeKeys } from "./support_keys.ts";
import type { KeyPems } from "./support_keys.ts";
import { drain, textOf } from "./support_letters.ts";
import { Log } from "./support_log.ts";

const [first, second] = [makeKeys(), makeKeys()];
const rsa = { name: "RSA-OAEP", hash: "SHA-256" } as const;

function der(pem: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(pem.replace(/-----[^-]+-----|\s/g, "")), (char) => char.charCodeAt(0));
}

const importPrivate = (pem: string, extractable: boolean) =>
  crypto.subtle.importKey("pkcs8", der(pem), rsa, extractable, ["decrypt"]);
const importPublic = (pem: string) => crypto.subtle.importKey("spki", der(pem), rsa, true, ["encrypt"]);

for (const { name, url } of urls()) {
  describe(`the key of a service on ${name}`, () => {
    const open = stage(url);

    /** Serves one method under a name, each time anew. */
    function serving(
      target: string,
      answer: string,
      privateKey?: PrivateKeyInput,
      options: MethodOptions = {},
    ) {
      return open.service({ work: (params: unknown) => [answer, params] }, {
        name: target,
        concurrency: 1,
        methods: { work: options },
        ...(privateKey === undefined ? {} : { privateKey }),
      });
    }

    const forms: [string, () => PrivateKeyInput | Promise<PrivateKeyInput>][] = [
      ["PEM", () => first.privatePem],
      ["PEM with other line ends", () => first.privatePem.replaceAll("\n", "\r\n")],
      ["a CryptoKey", () => importPrivate(first.privatePem, true)],
      ["a pair", async () => ({
        privateKey: await importPrivate(first.privatePem, true),
        publicKey: await importPublic(first.publicPem),
      })],
      ["a pair whose private key cannot be exported", async () => ({
        privateKey: await importPrivate(first.privatePem, false),
        publicKey: await importPublic(first.publicPem),
      })],
    ];
    for (const [what, make] of forms) {
      it(`may be given as ${what}`, async () => {
        const service = await serving(uniqueName("service"), "first", await make(), { encrypted: true });
        const mesh = await open.mesh();
        assert.equal((await mesh.describe(service.name)).publicKey, first.publicPem);
        assert.deepEqual(await mesh.request(service.name, "work", { a: 1 }), ["first", { a: 1 }]);
      });
    }

    const garbage: [string, () => unknown][] = [
      ["an empty text", () => ""],
      ["a text", () => "-----BEGIN PRIVATE KEY-----"],
      ["a public key", () => first.publicPem],
      ["damaged PEM", () => first.privatePem.replace(/\n.{64}\n/, "\n")],
      ["bytes", () => der(first.privatePem)],
      ["null", () => null],
      ["a CryptoKey that cannot be exported", () => importPrivate(first.privatePem, false)],
      ["a public CryptoKey", () => importPublic(first.publicPem)],
      ["two keys that do not belong together", async () => ({
        privateKey: await importPrivate(first.privatePem, false),
        publicKey: await importPublic(second.publicPem),
      })],
    ];
    for (const [what, make] of garbage) {
      it(`is refused at the start when it is ${what}, with nothing of it in the text`, async () => {
        const given = await make() as PrivateKeyInput;
        const target = uniqueName("service");
        const error = await failure(NuropbValidationError, () => serving(target, "first", given));
        assert.equal(error.code, "INVALID_ARGUMENT");
        const lines = first.privatePem.split("\n").filter((line) => /^[\w+/=]{20,}$/.test(line));
        for (const line of lines) assert.ok(!inspect(error, { depth: 9 }).includes(line.slice(0, 20)));
        const mesh = await open.mesh();
        assert.equal(
          (await reasonOf(() => mesh.describe(target)) as { code?: string }).code,
          "NOT_DELIVERED",
        );
      });
    }

    it("is made at the start where a method needs one, and the log says so", async () => {
      const log = new Log();
      const methods = { secret: { encrypted: true } };
      const service = await open.service({ secret: () => "s" }, { methods, logger: log });
      const mesh = await open.mesh();
      const { publicKey, encryptedMethods } = await mesh.describe(service.name);
      assert.match(publicKey!, /^-----BEGIN PUBLIC KEY-----\n[\w+/=\n]+-----END PUBLIC KEY-----\n$/);
      assert.equal(encryptedMethods, true);
      assert.equal(await mesh.request(service.name, "secret"), "s");
      assert.match(log.of("warn")[0]!.message, /made a private key of its own/);
      assert.doesNotMatch(log.text(), /PRIVATE KEY/);
    });

    it("is not made where no method needs one, nor told when it was given", async () => {
      const log = new Log();
      const mesh = await open.mesh();
      const plain = await open.service({ work() {} }, { logger: log });
      assert.equal((await mesh.describe(plain.name)).publicKey, null);
      await open.service({ work() {} }, {
        logger: log,
        privateKey: first.privatePem,
        methods: { work: { encrypted: true } },
      });
      assert.deepEqual(log.of("warn"), []);
    });

    it("is shared by instances that share the work", async () => {
      const target = uniqueName("service");
      for (const answer of ["a", "b"]) await serving(target, answer, first.privatePem, { encrypted: true });
      const mesh = await open.mesh();
      const calls = Array.from(
        { length: 40 },
        (_, number) => mesh.request<unknown[]>(target, "work", { number }),
      );
      const answers = await within(Promise.all(calls));
      assert.deepEqual(answers.map(([, params]) => params), answers.map((_, number) => ({ number })));
      for (const answer of ["a", "b"]) {
        assert.ok(answers.some(([by]) => by === answer), `${answer} has answered`);
      }
    });

    it("may change: the next request finds out by itself", async () => {
      const target = uniqueName("service");
      const before = await serving(target, "first", first.privatePem, { encrypted: true });
      const mesh = await open.mesh();
      assert.deepEqual(await mesh.request(target, "work", { a: 1 }), ["first", { a: 1 }]);
      await before.close();
      await serving(target, "second", second.privatePem, { encrypted: true });
      assert.deepEqual(await mesh.request(target, "work", { a: 2 }, { traceId: "trace-1" }), ["second", {
        a: 2,
      }]);
      assert.equal((await mesh.describe(target)).publicKey, second.publicPem);
      assert.deepEqual(await mesh.request(target, "work", { a: 3 }), ["second", { a: 3 }]);
      assert.deepEqual(await drain(mesh, target), []);
    });

    it("may change amid many requests", async () => {
      const target = uniqueName("service");
      const before = await serving(target, "first", first.privatePem, { encrypted: true });
      const mesh = await open.mesh();
      await mesh.request(target, "work");
      await before.close();
      await serving(target, "second", second.privatePem, { encrypted: true });
      const calls = Array.from({ length: 30 }, (_, number) => mesh.request(target, "work", { number }));
      const answers = await within(Promise.all(calls));
      assert.deepEqual(answers, answers.map((_, number) => ["second", { number }]));
    });

    it("may change for a caller who asked for encryption himself", async () => {
      const target = uniqueName("service");
      const before = await serving(target, "first", first.privatePem);
      const mesh = await open.mesh();
      const encrypted = { encrypted: true };
      await mesh.request(target, "work", {}, encrypted);
      await before.close();
      const after = await serving(target, "second", second.privatePem);
      assert.deepEqual(await mesh.request(target, "work", {}, encrypted), ["second", {}]);
      await after.close();
      await serving(target, "third");
      const error = await failure(NuropbMessageError, () => mesh.request(target, "work", {}, encrypted));
      assert.equal(error.message, `${target} has no public key, so nothing can be encrypted to it`);
      assert.deepEqual(await mesh.request(target, "work"), ["third", {}]);
    });

    it("may change, which a command cannot find out: it goes to the dead letters, encrypted, until a request does", async () => {
      const target = uniqueName("service");
      const before = await serving(target, "first", first.privatePem, { encrypted: true });
      const mesh = await open.mesh();
      await mesh.command(target, "work", { a: 1 });
      await before.close();
      await serving(target, "second", second.privatePem, { encrypted: true });
      await mesh.command(target, "work", { a: 2 });
      const letters = await drain(mesh, target);
      assert.deepEqual(
        letters.map(({ type, reason, message }) => [type, reason, message.headers["encrypted"]]),
        [
          ["command", "rejected", "yes"],
        ],
      );
      assert.doesNotMatch(textOf(letters[0]!), /[{"]/);
      await mesh.request(target, "work", { a: 3 });
      await mesh.command(target, "work", { a: 4 });
      assert.deepEqual(await drain(mesh, target), []);
    });

    it("may come: a method that wants encryption now gets it from a caller who knew it without", async () => {
      const target = uniqueName("service");
      const before = await serving(target, "plain");
      const mesh = await open.mesh();
      assert.deepEqual(await mesh.request(target, "work", { a: 1 }), ["plain", { a: 1 }]);
      await before.close();
      await serving(target, "encrypted", first.privatePem, { encrypted: true });
      assert.deepEqual(await mesh.request(target, "work", { a: 2 }), ["encrypted", { a: 2 }]);
    });

    it("may come with a new method, from a caller who knew the service without", async () => {
      const target = uniqueName("service");
      const before = await serving(target, "plain");
      const mesh = await open.mesh();
      await mesh.request(target, "work");
      await before.close();
      await open.service({ secret: (params: unknown) => params }, {
        name: target,
        privateKey: first.privatePem,
        methods: { secret: { encrypted: true } },
      });
      assert.deepEqual(await mesh.request(target, "secret", { a: 1 }), { a: 1 });
    });

    it("may go: a method that wants no encryption any more gets none", async () => {
      const target = uniqueName("service");
      const before = await serving(target, "encrypted", first.privatePem, { encrypted: true });
      const mesh = await open.mesh();
      await mesh.request(target, "work");
      await before.close();
      await serving(target, "plain");
      assert.deepEqual(await mesh.request(target, "work", { a: 1 }), ["plain", { a: 1 }]);
      assert.equal((await mesh.describe(target)).publicKey, null);
    });

    it("does not make a request run twice that was refused for what it says", async () => {
      let runs = 0;
      const service = await open.service({
        work() {
          runs++;
          throw new NuropbMessageError("the method's own refusal");
        },
      }, { privateKey: first.privatePem, methods: { work: { encrypted: true } } });
      const mesh = await open.mesh();
      const error = await failure(NuropbMessageError, () => mesh.request(service.name, "work"));
      assert.equal(error.message, "the method's own refusal");
      assert.equal(runs, 1);
    });

    for (const encrypted of [false, true]) {
      it(`may change without a request running twice for a refusal of the method's own: ${encrypted ? "encrypted" : "plain"}`, async () => {
        const target = uniqueName("service");
        let runs = 0;
        const refusing = ({ privatePem }: KeyPems) =>
          open.service({
            work() {
              runs++;
              throw new NuropbMessageError("the method's own refusal");
            },
          }, { name: target, privateKey: privatePem, methods: { work: { encrypted } } });
        const before = await refusing(first);
        const mesh = await open.mesh();
        await mesh.describe(target);
        await before.close();
        await refusing(second);
        const { error } = await mesh.requestRaw(target, "work");
        assert.equal(error?.description, "the method's own refusal");
        assert.equal(runs, 1);
      });

      it(`does not keep a caller from a refusal of the method's own while the service is busy: ${encrypted ? "encrypted" : "plain"}`, async () => {
        const [begun, go, end] = [signal(), signal(), signal()];
        const service = await open.service({
          async work() {
            begun.send();
            await go.promise;
            throw new NuropbMessageError("the method's own refusal");
          },
          hang: () => end.promise,
        }, { concurrency: 1, privateKey: first.privatePem, methods: { work: { encrypted } } });
        const mesh = await open.mesh();
        await mesh.describe(service.name);
        const refused = within(mesh.requestRaw(service.name, "work"), 2_000).finally(() => end.send());
        await within(begun.promise);
        // After this one the service has no time to describe itself once more.
        const hanging = mesh.request(service.name, "hang");
        go.send();
        const [answer] = await Promise.all([refused, hanging]);
        assert.equal(answer.error?.description, "the method's own refusal");
      });
    }

    it("survives that its first asker gives up", async () => {
      const target = uniqueName("service");
      await (await serving(target, "first", first.privatePem, { encrypted: true })).close();
      const mesh = await open.mesh();
      const gone = signal<unknown>();
      mesh.request(target, "work", {}, { ttl: 100 }).catch(gone.send);
      const patient = mesh.request(target, "work", { a: 1 }, { ttl: 8_000 });
      await within(gone.promise);
      await serving(target, "first", first.privatePem, { encrypted: true });
      assert.deepEqual(await within(patient), ["first", { a: 1 }]);
      await eventually(() => mesh.describe(target), ({ publicKey }) => publicKey === first.publicPem);
    });
  });
}
