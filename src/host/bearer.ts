/**
 * Bearer tokens: signed JWTs, checked with jose before a method is run.
 *
 * @module
 */
import type { JWTHeaderParameters } from "jose";
import { NuropbAuthenticationError } from "../errors.ts";
import { checkInteger, checkRecord, invalid, MAX_MILLISECONDS } from "../options.ts";
import { findKey, keySource } from "./bearer_keys.ts";
import type { BearerKeyOptions } from "./bearer_keys.ts";

/** What a token says, once it is known to be genuine. */
export interface BearerClaims {
  /** Who issued it. */
  iss?: string;
  /** Whom it speaks of. */
  sub?: string;
  /** Whom it is meant for. */
  aud?: string | string[];
  /** When it ends, in seconds since the epoch. */
  exp?: number;
  /** When it begins, in seconds since the epoch. */
  nbf?: number;
  /** When it was issued, in seconds since the epoch. */
  iat?: number;
  /** Its own id. */
  jti?: string;
  /** Whatever else the issuer puts in. */
  [claim: string]: unknown;
}

/** Options of {@linkcode bearer}. Exactly one of `jwks`, `publicKey` and `secret` must be given. */
export interface BearerOptions extends BearerKeyOptions {
  /** Who must have issued the token, or a list of those who may. Default: not checked. */
  issuer?: string | string[];
  /** Whom the token must be meant for; with a list, one of them. Default: not checked. */
  audience?: string | string[];
  /**
   * The signatures taken. Default: all of RS, PS and ES with 256, 384 and 512 bits, EdDSA and Ed25519 that fit the
   * key; HS256, HS384 and HS512 for a secret. What does not fit the kind of key is refused, `none` always.
   */
  algorithms?: string[];
  /** How far the clocks of issuer and service may differ, in ms. @default {5_000} */
  clockTolerance?: number;
}

/** All options: a misspelled one must not pass for one that was left out. */
const names: ReadonlySet<string> = new Set(
  [
    "jwks",
    "publicKey",
    "secret",
    "issuer",
    "audience",
    "algorithms",
    "clockTolerance",
    "jwksTimeout",
    "jwksMaxAge",
    "jwksCooldown",
  ] satisfies (keyof BearerOptions)[],
);

/**
 * Makes the `authorize` of a service out of what is known of the issuer of its callers' tokens.
 *
 * @typeParam Claims What the issuer's tokens say, for `ctx.claims`. Signature, times, issuer and audience are
 *   checked; that the rest has this shape is the issuer's word.
 * @returns A function that gives the claims of a token, without `Bearer ` before it. It rejects with
 *   {@linkcode NuropbAuthenticationError} for any other, and its text tells nothing of the token. When the issuer's
 *   keys could not be had, the token is refused as well, with a text that says so; the error's `cause` is then what
 *   went wrong with the keys, for the log, and no part of the token.
 * @throws {NuropbValidationError} `INVALID_ARGUMENT` at once, naming the option that cannot be used.
 *
 * @example
 * ```ts
 * import { bearer } from "@nuropb/mesh";
 * import { SignJWT } from "jose";
 *
 * const secret = crypto.getRandomValues(new Uint8Array(32));
 * const authorize = bearer<{ sub: string }>({ secret, issuer: "https://id.example" });
 *
 * const token = await new SignJWT({ sub: "ann", iss: "https://id.example" })
 *   .setProtectedHeader({ alg: "HS256" })
 *   .setExpirationTime("5 minutes")
 *   .sign(secret);
 * console.log((await authorize(token)).sub); // ann
 * ```
 */
export function bearer<Claims extends object = BearerClaims>(
  options: BearerOptions,
): (token: string) => Promise<Claims> {
  checkNames(options);
  const source = keySource(options);
  const rules = {
    algorithms: checkAlgorithms(options.algorithms, source.algorithms),
    clockTolerance: checkInteger("clockTolerance", options.clockTolerance ?? 5_000, 0, MAX_MILLISECONDS) /
      1000,
    ...("issuer" in options ? { issuer: checkTexts("issuer", options.issuer) } : {}),
    ...("audience" in options ? { audience: checkTexts("audience", options.audience) } : {}),
  };
  const find = (header: JWTHeaderParameters) => findKey(source, header);
  // Loaded now, so that no token waits for it; who takes none does not load it.
  const loading = import("./jose.ts");
  loading.catch(() => {
    // Whoever brings a token is told.
  });
  return async (token) => {
    const { jwtVerify } = await loading;
    try {
      return (await jwtVerify<Claims>(token, find, rules)).payload;
    } catch (error) {
      if (error instanceof NuropbAuthenticationError) throw error;
      // Without a cause, as jose's errors hold the claims.
      throw new NuropbAuthenticationError("The bearer token is not valid");
    }
  };
}

function checkAlgorithms(given: unknown, usable: readonly string[]): string[] {
  if (given === undefined) return [...usable];
  if (!Array.isArray(given) || given.length === 0) throw invalid("algorithms must be a list of names", given);
  for (const name of given) {
    if (!usable.includes(name)) {
      throw invalid(`algorithms must be of those that fit the key: ${usable.join(", ")}`, name);
    }
  }
  return [...given];
}

function checkTexts(name: string, given: unknown): string | string[] {
  const isText = (value: unknown): value is string => typeof value === "string" && value !== "";
  if (isText(given)) return given;
  if (Array.isArray(given) && given.length > 0 && given.every(isText)) return [...given];
  // An undefined one, too: a setting that was forgotten must not switch the check off.
  throw invalid(`${name} must be a non-empty string or a list of them, or be left out`, given);
}

function checkNames(options: BearerOptions): void {
  for (const name of Object.keys(checkRecord("bearer's options", options))) {
    if (!names.has(name)) throw invalid(`bearer's options must be of ${[...names].join(", ")}`, name);
  }
}
