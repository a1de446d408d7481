import assert from "node:assert/strict";
import { createCipheriv, createHmac } from "node:crypto";
import { inspect } from "node:util";
import { beforeAll, describe, it } from "@std/testing/bdd";
import { NuropbMessageError } from "../../src/errors.ts";
import { encodeBase64 } from "../../src/wire/base64.ts";
import { encryptRequest, importPublicKey } from "../../src/wire/encryption.ts";
import { decryptRequest, generateServiceKey, importPrivateKey } from "../../src/wire/private_key.ts";
import type { ServiceKey } from "../../src/wire/private_key.ts";
import vectors from "./vectors/encrypted.json" with { type: "json" };

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** The error that a promise rejects with. */
async function failureOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    assert(error instanceof Error);
    return error;
  }
  throw new assert.AssertionError({ message: "It did not fail" });
}

describe("encryption of payloads", () => {
  let service: ServiceKey;
  let publicKey: CryptoKey;

  beforeAll(async () => {
    service = await generateServiceKey();
    publicKey = await importPublicKey(service.publicKeyPem);
  });

  it("reads a request of Python's, and the answer with the request's key", async () => {
    const { privateKey } = await importPrivateKey(vectors.privateKeyPem);
    const { body, key } = await decryptRequest(bytes(vectors.request), privateKey);
    const request = JSON.parse(text(body));
    assert.equal(request.method, "secret");
    assert.deepEqual(request.context, { Authorization: "Bearer tok" });
    const response = JSON.parse(text(await key.decrypt(bytes(vectors.response))));
    assert.deepEqual(response.result, { secret: 42, kw: { p: 1 } });
    assert.equal(response.correlation_id, request.correlation_id);
  });

  for (const size of [0, 1, 15, 16, 17, 60, 4096, 1_000_003]) {
    it(`carries ${size} bytes there and back`, async () => {
      const sent = new Uint8Array(size).map((_byte, index) => index % 251);
      const request = await encryptRequest(sent, publicKey);
      const received = await decryptRequest(request.body, service.privateKey);
      assert.deepEqual(received.body, sent);
      const answer = await received.key.encrypt(sent.toReversed());
      assert.deepEqual(await request.key.decrypt(answer), sent.toReversed());
    });
  }

  it("takes a body that is a part of a larger buffer, and keeps nothing of it", async () => {
    const request = await encryptRequest(bytes("..payload..").subarray(2, 9), publicKey);
    const frame = new Uint8Array(request.body.length + 20).fill(0x2e);
    frame.set(request.body, 10);
    // Node's Buffer, whose slice is a view.
    const body = "Buffer" in globalThis
      ? (globalThis as unknown as {
        Buffer: { from(of: ArrayBuffer, at: number, length: number): Uint8Array };
      })
        .Buffer.from(frame.buffer, 10, request.body.length)
      : frame.subarray(10, -10);
    const received = await decryptRequest(body, service.privateKey);
    assert.equal(text(received.body), "payload");
    frame.fill(0);
    const answer = await received.key.encrypt(bytes("answer"));
    assert.equal(text(answer).split(".")[0], text(request.body).split(".")[0]);
    assert.equal(text(await request.key.decrypt(answer)), "answer");
  });

  it("has the form of two base64 texts with a dot between, the second one twice over", async () => {
    const { body } = await encryptRequest(bytes("{}"), publicKey);
    const [, wrapped, token] = /^([A-Za-z0-9+/]+={0,2})\.([A-Za-z0-9+/]+={0,2})$/.exec(text(body))!;
    assert.equal(atob(wrapped!).length, 256);
    assert.match(atob(token!), /^gAAAAA[A-Za-z0-9_-]+={0,2}$/);
  });

  it("makes a key for each request, and encrypts nothing twice alike", async () => {
    const [first, second] = await Promise.all([
      encryptRequest(bytes("same"), publicKey),
      encryptRequest(bytes("same"), publicKey),
    ]);
    const answers = await Promise.all(
      [first, first, second].map(({ key }) => key.encrypt(bytes("a"))),
    );
    assert.equal(new Set([first.body, second.body, ...answers].map(text)).size, 5);
    await assert.rejects(first.key.decrypt(answers[2]!), NuropbMessageError);
  });

  it("begins an answer as the request began", async () => {
    const request = await encryptRequest(bytes("{}"), publicKey);
    const { key } = await decryptRequest(request.body, service.privateKey);
    const firstPart = (body: Uint8Array) => text(body).split(".")[0];
    assert.equal(firstPart(await key.encrypt(bytes("{}"))), firstPart(request.body));
  });

  it("shows nothing of a key that is inspected or serialized", async () => {
    const { key } = await encryptRequest(bytes("{}"), publicKey);
    assert.equal(JSON.stringify(key), "{}");
    assert.deepEqual(Reflect.ownKeys(key), []);
    assert.deepEqual(Object.keys(structuredClone(key)), []);
    assert.match(inspect(key, { showHidden: true, depth: 9 }), /^PayloadKey \{\s*\}$/);
  });

  describe("that cannot be undone", () => {
    const secret = crypto.getRandomValues(new Uint8Array(32));
    const keyText = encodeBase64(secret, "base64url");
    const [version, time, iv] = [Uint8Array.of(0x80), new Uint8Array(8), new Uint8Array(16)];

    /** A Fernet token with a right HMAC, whatever is in it. */
    function signed(...parts: Uint8Array[]): Uint8Array {
      const data = Uint8Array.from(parts.flatMap((part) => [...part]));
      const mac = createHmac("sha256", secret.subarray(0, 16)).update(data).digest();
      return Uint8Array.from([...data, ...mac]);
    }

    function cipher(data: Uint8Array, padded: boolean): Uint8Array {
      const aes = createCipheriv("aes-128-cbc", secret.subarray(16), iv).setAutoPadding(padded);
      return Uint8Array.from([...aes.update(data), ...aes.final()]);
    }

    const good = () => signed(version, time, iv, cipher(bytes("good"), true));
    const changed = (data: Uint8Array, at: number) =>
      data.map((byte, index) => index === at ? byte ^ 1 : byte);

    const tokens: Record<string, () => Uint8Array> = {
      "a changed HMAC": () => changed(good(), good().length - 1),
      "a changed ciphertext": () => changed(good(), 30),
      "a changed IV": () => changed(good(), 10),
      "a changed time": () => changed(good(), 8),
      "another version": () => signed(Uint8Array.of(0x81), time, iv, cipher(bytes("good"), true)),
      "no ciphertext": () => signed(version, time, iv),
      "half a block": () => signed(version, time, iv, new Uint8Array(8)),
      "a wrong padding": () => signed(version, time, iv, cipher(new Uint8Array(16), false)),
      "only a version": () => version,
      "nothing": () => new Uint8Array(0),
    };

    async function wrap(key: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
      return encodeBase64(
        new Uint8Array(await crypto.subtle.encrypt({ name: "RSA-OAEP" }, publicKey, key)),
        "base64",
      );
    }

    const body = (firstPart: Uint8Array | string, token: Uint8Array | string) =>
      bytes([firstPart, token].map((part) => typeof part === "string" ? part : text(part)).join("."));
    const twice = (token: Uint8Array) => encodeBase64(encodeBase64(token, "base64url"), "base64");

    it("is not so for a token that is well made", async () => {
      const received = await decryptRequest(body(await wrap(keyText), twice(good())), service.privateKey);
      assert.equal(text(received.body), "good");
    });

    it("fails in one and the same way whatever is wrong", async () => {
      const firstPart = text(await wrap(keyText));
      const made = text(twice(good()));
      const request = await encryptRequest(bytes("{}"), publicKey);
      const requests = [
        ...Object.values(tokens).map((token) => body(firstPart, twice(token()))),
        body(changed(bytes(firstPart), 100), made),
        body(await wrap(new Uint8Array(44)), made),
        body(await wrap(keyText.slice(1)), made),
        body(await wrap(encodeBase64(crypto.getRandomValues(new Uint8Array(32)), "base64url")), made),
        body("AAAA", made),
        body("", made),
        body("*", made),
        body(firstPart, ""),
        body(firstPart, made.slice(1)),
        body(firstPart, encodeBase64(good(), "base64")),
        body(firstPart, `${made}.${made}`),
        bytes(firstPart),
        bytes('{"tag":"request"}'),
        new Uint8Array(0),
      ];
      const other = await generateServiceKey();
      const failures = await Promise.all([
        ...requests.map((body) => failureOf(decryptRequest(body, service.privateKey))),
        ...requests.slice(0, -2).map((body) => failureOf(request.key.decrypt(body))),
        failureOf(decryptRequest(request.body, other.privateKey)),
      ]);
      assert.equal(failures.length, requests.length * 2 - 1);
      for (const error of failures) {
        assert(error instanceof NuropbMessageError);
        assert.equal(error.code, "INVALID_MESSAGE");
        assert.equal(error.description, "The encrypted payload cannot be decrypted");
        assert.equal(error.cause, undefined);
        assert.deepEqual(Object.values(error).filter((value) => value !== undefined), ["INVALID_MESSAGE"]);
      }
    });
  });
});
