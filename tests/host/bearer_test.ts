import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { type JWTPayload, UnsecuredJWT } from "jose";
import { bearer, type BearerOptions } from "../../src/host/bearer.ts";
import { bytes, Issuer, notValid, now, sign } from "./issuer.ts";

describe("bearer", () => {
  const secret = crypto.getRandomValues(new Uint8Array(64));
  const hmac = (claims?: JWTPayload) => sign(secret, { alg: "HS256" }, claims);

  describe("takes the signatures that fit its key", () => {
    for (const algorithm of ["RS256", "RS512", "PS256", "PS384", "ES256", "ES384", "EdDSA", "Ed25519"]) {
      it(`${algorithm} with PEM, a JWK, a CryptoKey or a key set`, async () => {
        const issuer = await Issuer.of(algorithm);
        const token = await issuer.token();
        const jwk = await issuer.jwk();
        const sources: BearerOptions[] = [
          { publicKey: await issuer.pem() },
          { publicKey: `some text\n  ${(await issuer.pem()).replaceAll("\n", "\r\n  ")}` },
          { publicKey: jwk },
          { publicKey: { ...jwk, alg: algorithm, use: "sig" } },
          { publicKey: issuer.pair.publicKey },
          { jwks: { keys: [jwk] } },
          { jwks: { keys: [{ kty: "unheard-of" }, { ...jwk, alg: algorithm }] } },
        ];
        const other = await (await Issuer.of(algorithm)).token();
        for (const source of sources) {
          const authorize = bearer(source);
          assert.equal((await authorize(token)).sub, "ann-of-the-token");
          assert.equal((await authorize(token)).sub, "ann-of-the-token");
          await notValid(authorize(other), other);
          await notValid(bearer({ ...source, issuer: "x" })(token), token);
        }
      });
    }

    for (const algorithm of ["HS256", "HS384", "HS512"]) {
      it(`${algorithm} with a secret, as bytes or text`, async () => {
        const text = "a secret of more than sixty-four bytes, for the largest of the hashes";
        for (const given of [secret, text]) {
          const token = await sign(typeof given === "string" ? bytes(given) : given, { alg: algorithm });
          assert.equal((await bearer({ secret: given })(token)).sub, "ann-of-the-token");
          const other = await sign(crypto.getRandomValues(new Uint8Array(64)), { alg: algorithm });
          await notValid(bearer({ secret: given })(other), other);
        }
      });
    }

    it("and no others", async () => {
      const [rsa, curve] = await Promise.all([Issuer.of("RS256"), Issuer.of("ES256")]);
      const [rsaToken, curveToken, hmacToken] = await Promise.all([rsa.token(), curve.token(), hmac()]);
      await notValid(bearer({ publicKey: await rsa.pem() })(curveToken), curveToken);
      await notValid(bearer({ publicKey: await curve.pem() })(rsaToken), rsaToken);
      await notValid(bearer({ publicKey: rsa.pair.publicKey })(hmacToken), hmacToken);
      await notValid(bearer({ secret })(rsaToken), rsaToken);
      await notValid(
        bearer({ publicKey: await rsa.pem(), algorithms: ["PS256", "RS512"] })(rsaToken),
        rsaToken,
      );
      await bearer({ publicKey: await rsa.pem(), algorithms: ["PS256", "RS256"] })(rsaToken);
      await notValid(bearer({ secret, algorithms: ["HS512"] })(hmacToken), hmacToken);
    });

    it("and never HMAC with the public key as its secret", async () => {
      const issuer = await Issuer.of("RS256", "key-of-the-token");
      const [pem, jwk] = [await issuer.pem(), await issuer.jwk()];
      const sources: BearerOptions[] = [{ publicKey: pem }, { publicKey: jwk }, { jwks: { keys: [jwk] } }];
      for (const alg of ["HS256", "HS384", "HS512"]) {
        for (const text of [pem, pem.trim(), JSON.stringify(jwk)]) {
          for (const header of [{ alg }, { alg, kid: "key-of-the-token" }]) {
            const token = await sign(bytes(text), header);
            for (const source of sources) await notValid(bearer(source)(token), token);
          }
        }
      }
    });

    it("and never none", async () => {
      const issuer = await Issuer.of("RS256");
      const unsecured = new UnsecuredJWT({ sub: "ann-of-the-token", exp: now() + 60 }).encode();
      const [, payload] = unsecured.split(".");
      const tokens = [unsecured, (await issuer.token()).replace(/[^.]+$/, "")];
      for (const alg of ["none", "None", "NONE", "", null, undefined]) {
        const header = btoa(JSON.stringify({ alg, typ: "JWT" })).replaceAll("=", "");
        tokens.push(`${header}.${payload}.`, `${header}.${payload}`, `${header}.${payload}.AAAA`);
      }
      const sources: BearerOptions[] = [
        { publicKey: await issuer.pem() },
        { jwks: { keys: [await issuer.jwk()] } },
        { secret },
      ];
      for (const source of sources) {
        for (const token of tokens) await notValid(bearer(source)(token), token);
      }
    });
  });

  describe("checks what a token says", () => {
    const issuer = "https://id.example";

    it("of its issuer", async () => {
      const token = await hmac();
      await bearer({ secret, issuer })(token);
      await bearer({ secret, issuer: ["https://other.example", issuer] })(token);
      await notValid(bearer({ secret, issuer: "https://other.example" })(token), token);
      await notValid(bearer({ secret, issuer: `${issuer}/` })(token), token);
      const anonymous = await hmac({ iss: undefined as unknown as string });
      await notValid(bearer({ secret, issuer })(anonymous), anonymous);
      await bearer({ secret })(anonymous);
    });

    it("of its audience", async () => {
      const token = await hmac();
      await bearer({ secret, audience: "orders" })(token);
      await bearer({ secret, audience: ["bills", "orders"] })(token);
      await bearer({ secret, audience: "orders" })(await hmac({ aud: ["orders", "bills"] }));
      await notValid(bearer({ secret, audience: "bills" })(token), token);
      const forNobody = await hmac({ aud: [] });
      await notValid(bearer({ secret, audience: "orders" })(forNobody), forNobody);
    });

    it("of its times, with 5 s of tolerance", async () => {
      const authorize = bearer({ secret });
      await authorize(await hmac({ exp: now() - 2 }));
      await authorize(await hmac({ nbf: now() + 3 }));
      for (const claims of [{ exp: now() - 6 }, { exp: 0 }, { nbf: now() + 30 }]) {
        const token = await hmac(claims);
        await notValid(authorize(token), token);
      }
      for (const claims of [{ exp: "tomorrow" }, { nbf: "now" }]) {
        const token = await hmac(claims as unknown as JWTPayload);
        await notValid(authorize(token), token);
      }
    });

    it("of its times, with a tolerance in milliseconds", async () => {
      const [expired, early] = await Promise.all([hmac({ exp: now() - 30 }), hmac({ nbf: now() + 30 })]);
      for (const token of [expired, early]) {
        await bearer({ secret, clockTolerance: 60_000 })(token);
        await notValid(bearer({ secret, clockTolerance: 20_000 })(token), token);
        await notValid(bearer({ secret, clockTolerance: 60 })(token), token);
      }
      const justExpired = await hmac({ exp: now() });
      await notValid(bearer({ secret, clockTolerance: 0 })(justExpired), justExpired);
    });
  });

  it("gives all claims, in the shape that the caller names", async () => {
    const authorize = bearer<{ sub: string; roles: string[] }>({ secret });
    const { sub, roles }: { sub: string; roles: string[] } = await authorize(
      await hmac({ roles: ["clerk"] }),
    );
    assert.deepEqual([sub, roles], ["ann-of-the-token", ["clerk"]]);
  });

  it("refuses what is no token", async () => {
    const good = await hmac();
    const [header, payload, signature] = good.split(".") as [string, string, string];
    const json = (value: unknown) => btoa(JSON.stringify(value)).replaceAll("=", "");
    const garbage = [
      "",
      " ",
      ".",
      "..",
      "....",
      "garbage-garbage",
      "Bearer",
      `Bearer ${good}`,
      ` ${good}`,
      `${good}.`,
      `${header}.${payload}`,
      `${header}.${payload}.`,
      `${header}.${payload}.${signature.slice(1)}`,
      `${header}.${json({ sub: "ann-of-the-token", admin: true })}.${signature}`,
      `${json({ alg: "HS256", kid: "key-of-the-token" })}.${payload}.${signature}`,
      `${json({ alg: "HS256", crit: ["exp"] })}.${payload}.${signature}`,
      `${json("HS256")}.${payload}.${signature}`,
      `not-json.${payload}.${signature}`,
      "é".repeat(100),
      "x".repeat(1_000_000),
      `${header}.${payload}.${signature}.${header}.${payload}`,
    ];
    for (const token of garbage) await notValid(bearer({ secret })(token), token);
    for (const token of [undefined, null, 5, {}, []]) {
      await notValid(bearer({ secret })(token as unknown as string), "");
    }
  });
});
