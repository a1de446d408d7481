import assert from "node:assert/strict";
import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { inspect } from "node:util";
import { describe, it } from "@std/testing/bdd";
import { NuropbMessageError, NuropbValidationError } from "../../src/errors.ts";
import { decodeBase64 } from "../../src/wire/base64.ts";
import { encryptRequest, importPublicKey } from "../../src/wire/encryption.ts";
import { decryptRequest, generateServiceKey, importPrivateKey } from "../../src/wire/private_key.ts";
import type { PrivateKeyInput, ServiceKey } from "../../src/wire/private_key.ts";
import vectors from "./vectors/encrypted.json" with { type: "json" };

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const rsaOaep = (hash: string) => ({
  name: "RSA-OAEP",
  hash,
  modulusLength: 2048,
  publicExponent: Uint8Array.of(1, 0, 1),
});

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

describe("the keys of a service", () => {
  const pem = vectors.privateKeyPem;
  const publicPem = createPublicKey(pem).export({ type: "spki", format: "pem" }) as string;
  const der = new Uint8Array(decodeBase64(bytes(pem.replace(/-----[^-]+-----|\s/g, "")))!);
  const importAs = (extractable: boolean, hash = "SHA-256", usages: KeyUsage[] = ["decrypt"]) =>
    crypto.subtle.importKey("pkcs8", der, rsaOaep(hash), extractable, usages);
  const generated = (type: "rsa" | "ec", modulusLength = 2048) => {
    const { privateKey, publicKey } = type === "rsa"
      ? generateKeyPairSync("rsa", { modulusLength })
      : generateKeyPairSync("ec", { namedCurve: "P-256" });
    return {
      privatePem: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
      publicPem: publicKey.export({ type: "spki", format: "pem" }) as string,
    };
  };

  async function works({ privateKey, publicKeyPem }: ServiceKey): Promise<void> {
    const { body } = await encryptRequest(bytes("works"), await importPublicKey(publicKeyPem));
    assert.equal(text((await decryptRequest(body, privateKey)).body), "works");
  }

  it("come from PEM, and the private one cannot be exported", async () => {
    const key = await importPrivateKey(pem);
    assert.equal(key.publicKeyPem, publicPem);
    assert.equal(key.privateKey.extractable, false);
    await works(key);
  });

  it("come from PEM with other line ends, and with text around it", async () => {
    const key = await importPrivateKey(
      `Bag Attributes: none\r\n\r\n  ${pem.replaceAll("\n", "\r\n    ")}\r\n`,
    );
    assert.equal(key.publicKeyPem, publicPem);
  });

  it("come from an extractable CryptoKey", async () => {
    const key = await importPrivateKey(await importAs(true));
    assert.equal(key.publicKeyPem, publicPem);
    await works(key);
  });

  it("come from a pair whose private key is not extractable", async () => {
    const [privateKey, publicKey] = [await importAs(false), await importPublicKey(publicPem)];
    const key = await importPrivateKey({ privateKey, publicKey });
    assert.equal(key.publicKeyPem, publicPem);
    await works(key);
  });

  it("are made when there are none", async () => {
    const key = await generateServiceKey();
    assert.equal((key.privateKey.algorithm as RsaHashedKeyAlgorithm).modulusLength, 2048);
    assert.equal(key.privateKey.extractable, false);
    assert.match(
      key.publicKeyPem,
      /^-----BEGIN PUBLIC KEY-----\n(?:[\w+/=]{1,64}\n)+-----END PUBLIC KEY-----\n$/,
    );
    await works(key);
  });

  const refused: Record<string, [value: () => unknown, says: RegExp]> = {
    "a text that is no PEM": [() => "MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSi", /but is "some other text"$/],
    "an empty text": [() => "", /but is "some other text"$/],
    "PKCS1": [
      () => pem.replaceAll("PRIVATE KEY", "RSA PRIVATE KEY"),
      /but is "-----BEGIN RSA PRIVATE KEY-----"$/,
    ],
    "encrypted PKCS8": [
      () => pem.replaceAll("PRIV", "ENCRYPTED PRIV"),
      /"-----BEGIN ENCRYPTED PRIVATE KEY-----"$/,
    ],
    "the public key": [() => publicPem, /but is "-----BEGIN PUBLIC KEY-----"$/],
    "PEM without its end": [() => pem.slice(0, -30), /but is "damaged PEM"$/],
    "PEM with a hole": [() => pem.slice(0, 300) + pem.slice(500), /damaged/],
    "PEM of an elliptic curve": [
      () => generated("ec").privatePem,
      /but is "PEM of another key, or damaged"$/,
    ],
    "1024 bits": [() => generated("rsa", 1024).privatePem, /at least 2048 bits, but is 1024$/],
    "a CryptoKey that is not extractable": [() => importAs(false), /given together with its public key/],
    "a CryptoKey for SHA-1": [() => importAs(true, "SHA-1"), /"for RSA-OAEP with SHA-1"$/],
    "a CryptoKey without the usage": [() => importAs(true, "SHA-256", ["unwrapKey"]), /usage "decrypt"/],
    "a CryptoKey to sign with": [
      () => crypto.subtle.importKey("pkcs8", der, { name: "RSA-PSS", hash: "SHA-256" }, true, ["sign"]),
      /"for RSA-PSS with SHA-256"$/,
    ],
    "a public CryptoKey": [() => importPublicKey(publicPem), /but is "a public key"$/],
    "a pair of keys that do not belong together": [
      async () => ({
        privateKey: await importAs(false),
        publicKey: await importPublicKey(generated("rsa").publicPem),
      }),
      /publicKey must belong to privateKey/,
    ],
    "a pair without a public key": [
      async () => ({ privateKey: await importAs(false) }),
      /publicKey must be an extractable public CryptoKey, but is undefined/,
    ],
    "a pair of private keys": [
      async () => ({ privateKey: await importAs(false), publicKey: await importAs(true) }),
      /publicKey must be an extractable public CryptoKey/,
    ],
    "bytes": [() => der, /but is an object$/],
    "null": [() => null, /but is null$/],
  };

  for (const [what, [value, says]] of Object.entries(refused)) {
    it(`are not taken from ${what}, and the error shows nothing of it`, async () => {
      const given = await value();
      const error = await failureOf(importPrivateKey(given as PrivateKeyInput));
      assert(error instanceof NuropbValidationError, String(error));
      assert.equal(error.code, "INVALID_ARGUMENT");
      assert.match(error.message, says);
      const shown = inspect(error, { depth: 9 });
      const lines = typeof given === "string"
        ? given.split("\n").filter((line) => /^[\w+/=]{20,}$/.test(line))
        : [];
      for (const line of lines) assert(!shown.includes(line.slice(0, 20)), "It shows the key");
    });
  }

  const unreadable: Record<string, () => unknown> = {
    "no PEM": () => "key",
    "null": () => null,
    "a private key": () => pem,
    "an elliptic curve": () => generated("ec").publicPem,
    "1024 bits": () => generated("rsa", 1024).publicPem,
    "damaged PEM": () => publicPem.slice(0, 100) + publicPem.slice(104),
  };

  for (const [what, value] of Object.entries(unreadable)) {
    it(`make no public key of ${what}`, async () => {
      const error = await failureOf(importPublicKey(value() as string));
      assert(error instanceof NuropbMessageError, String(error));
      assert.equal(error.code, "INVALID_MESSAGE");
    });
  }
});
