/**
 * Tokens for the tests of bearer, and what must hold of every refusal.
 *
 * @module
 */
import assert from "node:assert/strict";
import { inspect } from "node:util";
import { exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { NuropbAuthenticationError } from "../../src/errors.ts";

/** Seconds since the epoch. */
export const now = () => Math.floor(Date.now() / 1000);
/** Text as UTF-8. */
export const bytes = (text: string) => new TextEncoder().encode(text);

/** An issuer's key, and tokens signed with it. */
export class Issuer {
  static async of(alg: string, kid?: string): Promise<Issuer> {
    return new Issuer(alg, kid, await generateKeyPair(alg, { extractable: true }));
  }

  readonly algorithm: string;
  readonly kid: string | undefined;
  readonly pair: { readonly privateKey: CryptoKey; readonly publicKey: CryptoKey };

  private constructor(algorithm: string, kid: string | undefined, pair: Issuer["pair"]) {
    this.algorithm = algorithm;
    this.kid = kid;
    this.pair = pair;
  }

  pem(): Promise<string> {
    return exportSPKI(this.pair.publicKey);
  }

  async jwk(): Promise<JsonWebKey> {
    return { ...await exportJWK(this.pair.publicKey), ...this.#named() } as JsonWebKey;
  }

  token(claims: JWTPayload = {}): Promise<string> {
    return sign(this.pair.privateKey, { alg: this.algorithm, ...this.#named() }, claims);
  }

  #named(): { kid?: string } {
    return this.kid === undefined ? {} : { kid: this.kid };
  }
}

/** A token with claims that are good for a minute, unless given. */
export function sign(
  key: CryptoKey | Uint8Array,
  header: { alg: string; kid?: string },
  claims: JWTPayload = {},
) {
  const standard = { sub: "ann-of-the-token", iss: "https://id.example", aud: "orders", exp: now() + 60 };
  return new SignJWT({ ...standard, ...claims }).setProtectedHeader(header).sign(key);
}

/** The token is refused, and the error shows no part of it, and none of what it says. */
export async function refused(
  authorizing: Promise<unknown>,
  token: string,
): Promise<NuropbAuthenticationError> {
  let error: unknown;
  try {
    await authorizing;
  } catch (thrown) {
    error = thrown;
  }
  assert(error instanceof NuropbAuthenticationError, inspect(error));
  assert.equal(error.code, "UNAUTHENTICATED");
  const causes: unknown[] = [];
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    causes.push(cause.stack, cause.message);
  }
  const shown = [inspect(error, { depth: 9, showHidden: true }), JSON.stringify(error), ...causes].join("\n");
  const parts = token.split(".").filter((part) => part.length > 3);
  for (const secret of [...parts, "ann-of-the-token", "key-of-the-token"]) {
    assert(!shown.includes(secret), `The error shows ${secret}`);
  }
  return error;
}

/** The token is refused for what it is. */
export async function notValid(authorizing: Promise<unknown>, token: string): Promise<void> {
  const error = await refused(authorizing, token);
  assert.equal(error.description, "The bearer token is not valid");
  assert.equal(error.cause, undefined);
}
