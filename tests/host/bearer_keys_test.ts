import assert from "node:assert/strict";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { inspect } from "node:util";
import { afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { exportJWK, exportPKCS8, exportSPKI, generateKeyPair, type JWTPayload } from "jose";
import { NuropbValidationError } from "../../src/errors.ts";
import { bearer, type BearerOptions } from "../../src/host/bearer.ts";
import { bytes, Issuer, notValid, refused, sign } from "./issuer.ts";

describe("bearer", () => {
  const secret = crypto.getRandomValues(new Uint8Array(64));
  const hmac = (claims?: JWTPayload) => sign(secret, { alg: "HS256" }, claims);

  describe("with a set of keys", () => {
    it("finds the key that a token names", async () => {
      const issuers = await Promise.all(["a", "b"].map((kid) => Issuer.of("ES256", kid)));
      const authorize = bearer({ jwks: { keys: await Promise.all(issuers.map((issuer) => issuer.jwk())) } });
      for (const issuer of issuers) await authorize(await issuer.token());
      const unknown = await (await Issuer.of("ES256", "key-of-the-token")).token();
      await notValid(authorize(unknown), unknown);
      const pretender = await (await Issuer.of("ES256", "a")).token();
      await notValid(authorize(pretender), pretender);
    });

    it("takes a token that names none if there is one key that fits, and refuses it if there are more", async () => {
      const [named, other] = await Promise.all([Issuer.of("ES256", "a"), Issuer.of("RS256", "b")]);
      const token = await sign(named.pair.privateKey, { alg: "ES256" });
      const keys = [await named.jwk(), await other.jwk()];
      await bearer({ jwks: { keys } })(token);
      const third = await (await Issuer.of("ES256", "c")).jwk();
      await notValid(bearer({ jwks: { keys: [...keys, third] } })(token), token);
    });

    it("is not changed by what happens to the object afterwards, and no more is a single key", async () => {
      const [issuer, thief] = await Promise.all([Issuer.of("ES256", "a"), Issuer.of("ES256", "a")]);
      const [publicKey, stolen] = [await issuer.jwk(), await thief.token()];
      const sharedSecret = secret.slice();
      const authorizers = [bearer({ publicKey }), bearer({ jwks: { keys: [publicKey] } })];
      const withSecret = bearer({ secret: sharedSecret });
      Object.assign(publicKey, await thief.jwk());
      sharedSecret.fill(0);
      for (const authorize of authorizers) {
        await authorize(await issuer.token());
        await notValid(authorize(stolen), stolen);
      }
      await withSecret(await hmac());
    });
  });

  describe("with a url of keys", () => {
    let server: Server;
    let url: string;
    let fetches: number;
    let answer: (response: ServerResponse) => void;
    let first: Issuer;
    let second: Issuer;

    const publish = (...issuers: Issuer[]) => {
      answer = async (response) => {
        const keys = await Promise.all(issuers.map((issuer) => issuer.jwk()));
        response.setHeader("content-type", "application/json").end(JSON.stringify({ keys }));
      };
    };

    beforeAll(async () => {
      [first, second] = await Promise.all([
        Issuer.of("RS256", "key-of-the-token"),
        Issuer.of("ES256", "second"),
      ]);
    });

    beforeEach(async () => {
      fetches = 0;
      publish(first);
      server = createServer((_request, response) => {
        fetches++;
        answer(response);
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`;
    });

    const stop = () => {
      server.closeAllConnections();
      return new Promise<void>((resolve) => server.close(() => resolve()));
    };
    afterEach(stop);

    it("fetches them when the first token comes, and once", async () => {
      const authorize = bearer({ jwks: new URL(url) });
      assert.equal(fetches, 0);
      const token = await first.token();
      await Promise.all([authorize(token), authorize(token)]);
      await authorize(token);
      assert.equal(fetches, 1);
    });

    it("fetches them again when the issuer has changed its keys", async () => {
      const authorize = bearer({ jwks: url, jwksCooldown: 0 });
      const [old, young] = await Promise.all([first.token(), second.token()]);
      await authorize(old);
      await notValid(authorize(young), young);
      assert.equal(fetches, 2);
      publish(first, second);
      await authorize(young);
      assert.equal(fetches, 3);
      await authorize(old);
      publish(second);
      await authorize(young);
      assert.equal(fetches, 3);
    });

    it("does not fetch them again within the cool-down, whatever tokens name", async () => {
      const authorize = bearer({ jwks: url });
      await authorize(await first.token());
      publish(first, second);
      const young = await second.token();
      for (let i = 0; i < 3; i++) await notValid(authorize(young), young);
      assert.equal(fetches, 1);
    });

    it("drops a key that the issuer has dropped when the set is old", async () => {
      const authorize = bearer({ jwks: url, jwksMaxAge: 0 });
      const old = await first.token();
      await authorize(old);
      publish(second);
      await notValid(authorize(old), old);
      await authorize(await second.token());
    });

    it("does not fetch for a token of an algorithm that is not taken", async () => {
      const token = await hmac();
      await notValid(bearer({ jwks: url })(token), token);
      assert.equal(fetches, 0);
    });

    async function unavailable(options: BearerOptions, issuer = first): Promise<Error> {
      const token = await issuer.token();
      const error = await refused(bearer(options)(token), token);
      assert.equal(
        error.description,
        "The bearer token cannot be checked: the keys of its issuer are not available",
      );
      assert(error.cause instanceof Error);
      return error.cause;
    }

    const answers: Record<string, (response: ServerResponse) => void> = {
      "with an error": (response) => void response.writeHead(503).end("down"),
      "with a redirect": (response) => void response.writeHead(302, { location: "/elsewhere" }).end(),
      "with no JSON": (response) => void response.end("<html>"),
      "with no set": (response) => void response.end('{"keys":1}'),
      "with a broken key": (response) =>
        void response.end(
          JSON.stringify({ keys: [{ kty: "RSA", n: "AQAB", e: "AQAB", kid: "key-of-the-token" }] }),
        ),
      "never": () => {},
      "with half an answer": (response) => {
        response.writeHead(200, { "content-length": "1000" }).write('{"keys":');
        setTimeout(() => response.destroy(), 5);
      },
    };

    for (const [how, give] of Object.entries(answers)) {
      it(`tells the log when the issuer answers ${how}, and takes tokens again when it answers well`, async () => {
        answer = give;
        const authorize = bearer({ jwks: url, jwksTimeout: 100, jwksCooldown: 0, jwksMaxAge: 0 });
        await unavailable({ jwks: url, jwksTimeout: 100 });
        const token = await first.token();
        await refused(authorize(token), token);
        publish(first);
        await authorize(token);
      });
    }

    it("tells the log when the issuer cannot be reached", async () => {
      await stop();
      await unavailable({ jwks: url });
    });

    it("lives on the keys it has while the issuer cannot be reached", async () => {
      const authorize = bearer({ jwks: url, jwksCooldown: 0 });
      const [old, young] = await Promise.all([first.token(), second.token()]);
      await authorize(old);
      await stop();
      await authorize(old);
      assert((await refused(authorize(young), young)).cause instanceof Error);
    });
  });

  describe("refuses at once", () => {
    let rsa: Issuer;
    let publicPem: string;
    let privatePem: string;
    let weak: CryptoKey;

    beforeAll(async () => {
      rsa = await Issuer.of("RS256");
      publicPem = await rsa.pem();
      privatePem = await exportPKCS8(rsa.pair.privateKey);
      const parameters = {
        name: "RSASSA-PKCS1-v1_5",
        hash: "SHA-256",
        publicExponent: Uint8Array.of(1, 0, 1),
      };
      const pair = await crypto.subtle.generateKey({ ...parameters, modulusLength: 1024 }, true, [
        "sign",
        "verify",
      ]);
      weak = pair.publicKey;
    });

    const cases: Record<string, [options: () => unknown, says: RegExp]> = {
      "no options": [() => undefined, /must be an object/],
      "no key": [() => ({}), /exactly one of jwks, publicKey and secret, but is "without any"/],
      "two keys": [() => ({ secret, publicKey: publicPem }), /exactly one .* but is "publicKey and secret"/],
      "an option that it does not know": [() => ({ secret, issuers: "x" }), /must be of .* but is "issuers"/],
      "a short secret": [() => ({ secret: "x".repeat(31) }), /at least 32 bytes, but is 31$/],
      "a short secret of bytes": [() => ({ secret: new Uint8Array(31) }), /at least 32 bytes/],
      "a secret of another type": [() => ({ secret: 5 }), /secret must be a string or a Uint8Array/],
      "a public key as the secret": [() => ({ secret: publicPem }), /goes into publicKey/],
      "a public key as the secret's bytes": [
        () => ({ secret: bytes(` ${publicPem}`) }),
        /goes into publicKey/,
      ],
      "a private key": [() => ({ publicKey: privatePem }), /but is "-----BEGIN PRIVATE KEY-----"$/],
      "a private JWK": [
        async () => ({ publicKey: await exportJWK(rsa.pair.privateKey) }),
        /must be a public key/,
      ],
      "a private CryptoKey": [() => ({ publicKey: rsa.pair.privateKey }), /but is "a private key for RSASSA/],
      "a text that is no PEM": [() => ({ publicKey: "key" }), /but is "some other text"$/],
      "damaged PEM": [() => ({ publicKey: publicPem.replace("MII", "AAA") }), /must be SPKI PEM/],
      "a secret JWK": [() => ({ publicKey: { kty: "oct", k: "AAAA" } }), /must be a public key/],
      "a JWK without a type": [() => ({ publicKey: { n: "x" } }), /publicKey.kty must be a string/],
      "a JWK of another curve": [
        () => ({ publicKey: { kty: "EC", crv: "secp256k1" } }),
        /must be a JWK for RSA/,
      ],
      "a JWK to encrypt with": [
        async () => ({ publicKey: { ...await rsa.jwk(), use: "enc" } }),
        /publicKey must be a JWK for RSA/,
      ],
      "a weak CryptoKey": [() => ({ publicKey: weak }), /2048 bits or more/],
      "a weak JWK": [async () => ({ publicKey: await exportJWK(weak) }), /2048 bits or more/],
      "weak PEM": [async () => ({ publicKey: await exportSPKI(weak) }), /2048 bits or more/],
      "a CryptoKey to encrypt with": [
        async () => ({ publicKey: (await generateKeyPair("RSA-OAEP-256")).publicKey }),
        /public CryptoKey with the usage verify/,
      ],
      "a url that is none": [() => ({ jwks: "id.example/jwks" }), /jwks must be an https: or http: url/],
      "a url of a file": [() => ({ jwks: "file:///etc/jwks.json" }), /jwks must be an https: or http: url/],
      "a url with credentials": [() => ({ jwks: "https://ann:hidden@id.example/" }), /without credentials/],
      "a set without keys": [() => ({ jwks: { keys: [] } }), /jwks must hold a key/],
      "a set that is none": [() => ({ jwks: { key: 1 } }), /jwks.keys must be a list, but is undefined/],
      "a set with a private key": [
        async () => ({ jwks: { keys: [await rsa.jwk(), await exportJWK(rsa.pair.privateKey)] } }),
        /jwks.keys\[1\] must be a public key/,
      ],
      "a timeout of 0": [() => ({ jwks: "https://id.example/", jwksTimeout: 0 }), /jwksTimeout must be/],
      "an issuer that was forgotten": [
        () => ({ secret, issuer: undefined }),
        /issuer must be .* but is undefined/,
      ],
      "an empty issuer": [() => ({ secret, issuer: "" }), /issuer must be/],
      "an audience that was forgotten": [() => ({ secret, audience: undefined }), /audience must be/],
      "an empty list of audiences": [() => ({ secret, audience: [] }), /audience must be/],
      "a list of audiences with a hole": [() => ({ secret, audience: ["x", undefined] }), /audience must be/],
      "none": [() => ({ secret, algorithms: ["none"] }), /algorithms must be of .* but is "none"/],
      "no algorithms": [() => ({ secret, algorithms: [] }), /algorithms must be a list of names/],
      "algorithms as text": [() => ({ secret, algorithms: "HS256" }), /algorithms must be a list of names/],
      "HMAC with a public key": [
        () => ({ publicKey: publicPem, algorithms: ["RS256", "HS256"] }),
        /algorithms must be of those that fit the key: RS256, .* but is "HS256"/,
      ],
      "HMAC with a url": [() => ({ jwks: "https://id.example/", algorithms: ["HS256"] }), /but is "HS256"/],
      "RSA with a secret": [() => ({ secret, algorithms: ["RS256"] }), /HS512, but is "RS256"/],
      "RS512 with a CryptoKey for RS256": [
        () => ({ publicKey: rsa.pair.publicKey, algorithms: ["RS512"] }),
        /fit the key: RS256, but is "RS512"/,
      ],
      "a tolerance as text": [
        () => ({ secret, clockTolerance: "5s" }),
        /clockTolerance must be a whole number/,
      ],
      "a negative tolerance": [
        () => ({ secret, clockTolerance: -1 }),
        /clockTolerance must be a whole number/,
      ],
    };

    for (const [what, [options, says]] of Object.entries(cases)) {
      it(what, async () => {
        const given = await options();
        assert.throws(() => bearer(given as BearerOptions), (error) => {
          assert(error instanceof NuropbValidationError, inspect(error));
          assert.equal(error.code, "INVALID_ARGUMENT");
          assert.match(error.message, says);
          assert.doesNotMatch(error.message, /hidden|MII|x{8}/);
          return true;
        });
      });
    }
  });
});
