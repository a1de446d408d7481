/**
 * Where the keys come from that check bearer tokens, and which signatures they fit.
 *
 * @module
 */
import type { JWTHeaderParameters } from "jose";
import { NuropbAuthenticationError } from "../errors.ts";
import { checkInteger, checkRecord, invalid, MAX_MILLISECONDS } from "../options.ts";
import { pemHeader, readPem, writePem } from "../wire/pem.ts";

/** A set of public keys, as issuers publish it. */
export interface JsonWebKeySet {
  /** The keys. */
  keys: JsonWebKey[];
}

/** Where the keys come from. Exactly one of `jwks`, `publicKey` and `secret` must be given. */
export interface BearerKeyOptions {
  /**
   * The issuer's key set: where to fetch it, or the set itself. It is fetched when the first token comes, kept, and
   * fetched again when it is old or a token names a key that is not in it, so that the issuer may change its keys.
   * Use `https:`: whoever can change what comes over `http:` can make tokens.
   */
  jwks?: string | URL | JsonWebKeySet;
  /** The issuer's only key: SPKI PEM, a JWK, or a CryptoKey with the usage `verify`. */
  publicKey?: string | JsonWebKey | CryptoKey;
  /** The secret that issuer and service share, for HMAC: at least 32 bytes. A text stands for its UTF-8. */
  secret?: string | Uint8Array;
  /** How long fetching the key set may take, in ms. @default {5_000} */
  jwksTimeout?: number;
  /** How old the fetched key set may become, in ms; a key that the issuer drops counts until then. @default {600_000} */
  jwksMaxAge?: number;
  /** How long after a fetch an unknown key does not cause another one, in ms. @default {30_000} */
  jwksCooldown?: number;
}

/** What jose checks a signature with. */
export type VerificationKey = CryptoKey | Uint8Array;

/** Where the keys come from, and which signatures they can check. */
export interface KeySource {
  readonly algorithms: readonly string[];
  /** The key for a token with this header. */
  readonly find: (header: { alg: string; kid?: string }) => Promise<VerificationKey>;
}

const hmac = ["HS256", "HS384", "HS512"];
const rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
const p256 = ["ES256"];
const p384 = ["ES384"];
const p521 = ["ES512"];
const edwards = ["EdDSA", "Ed25519"];
const asymmetric = [...rsa, ...p256, ...p384, ...p521, ...edwards];

const curves: ReadonlyMap<string | undefined, readonly string[]> = new Map([
  ["P-256", p256],
  ["P-384", p384],
  ["P-521", p521],
  ["Ed25519", edwards],
]);

/** By what an SPKI key says of its kind: the hex of its AlgorithmIdentifier. */
const spkiKinds: readonly (readonly [identifier: string, algorithms: readonly string[]])[] = [
  ["300d06092a864886f70d0101010500", rsa],
  ["301306072a8648ce3d020106082a8648ce3d030107", p256],
  ["301006072a8648ce3d020106052b81040022", p384],
  ["301006072a8648ce3d020106052b81040023", p521],
  ["300506032b6570", edwards],
];

const MINIMUM_SECRET_BYTES = 32;
const MINIMUM_RSA_BITS = 2048;
const ofUsableKind = `for RSA of ${MINIMUM_RSA_BITS} bits or more, P-256, P-384, P-521 or Ed25519`;

/**
 * Reads the options.
 *
 * @throws {NuropbValidationError} naming the one that cannot be used.
 */
export function keySource(options: BearerKeyOptions): KeySource {
  const { jwks, publicKey, secret } = options;
  const given = Object.entries({ jwks, publicKey, secret }).filter(([, value]) => value !== undefined);
  if (given.length !== 1) {
    const found = given.map(([name]) => name).join(" and ") || "without any";
    throw invalid("bearer must be given exactly one of jwks, publicKey and secret", found);
  }
  if (secret !== undefined) return sharedSecret(secret);
  if (publicKey !== undefined) return singleKey(publicKey);
  return typeof jwks === "string" || jwks instanceof URL ? remoteKeySet(jwks, options) : localKeySet(jwks);
}

/**
 * The key for a token.
 *
 * @throws {NuropbAuthenticationError} with what went wrong as its cause, when the keys cannot be had or used.
 * @throws An error of jose, when none of the keys is the token's.
 */
export async function findKey(source: KeySource, header: JWTHeaderParameters): Promise<VerificationKey> {
  try {
    const key = await source.find(header);
    if (!isLongEnough(key)) throw new TypeError(`The RSA key has fewer than ${MINIMUM_RSA_BITS} bits`);
    return key;
  } catch (cause) {
    const { errors } = await import("./jose.ts");
    // There are keys, and none of them is this token's.
    if (cause instanceof errors.JWKSNoMatchingKey || cause instanceof errors.JWKSMultipleMatchingKeys) {
      throw cause;
    }
    throw new NuropbAuthenticationError(
      "The bearer token cannot be checked: the keys of its issuer are not available",
      { cause },
    );
  }
}

function sharedSecret(secret: unknown): KeySource {
  if (typeof secret !== "string" && !(secret instanceof Uint8Array)) {
    throw invalid("secret must be a string or a Uint8Array", secret);
  }
  const bytes = typeof secret === "string" ? new TextEncoder().encode(secret) : Uint8Array.from(secret);
  const header = pemHeader(new TextDecoder().decode(bytes));
  // With a public key as the secret, everybody could sign.
  if (header !== undefined) throw invalid("secret must be no PEM: a public key goes into publicKey", header);
  if (bytes.length < MINIMUM_SECRET_BYTES) {
    throw invalid(`secret must have at least ${MINIMUM_SECRET_BYTES} bytes`, bytes.length);
  }
  return { algorithms: hmac, find: () => Promise.resolve(bytes) };
}

function singleKey(key: unknown): KeySource {
  if (typeof key === "string") {
    const der = readPem(key, "PUBLIC KEY");
    const algorithms = der && spkiAlgorithms(der);
    if (der === undefined || algorithms === undefined) {
      throw invalid(`publicKey must be SPKI PEM ${ofUsableKind}`, pemHeader(key) ?? "some other text");
    }
    // Written anew, as jose takes it only without anything around.
    const pem = writePem(der, "PUBLIC KEY");
    return { algorithms, find: lazily(({ importSPKI }) => importOnce((alg) => importSPKI(pem, alg))) };
  }
  if (isCryptoKey(key)) return { algorithms: cryptoKeyAlgorithms(key), find: () => Promise.resolve(key) };
  const jwk = copyJwk("publicKey", key);
  const algorithms = jwkAlgorithms(jwk);
  if (algorithms === undefined) throw invalid(`publicKey must be a JWK ${ofUsableKind}`, key);
  return { algorithms, find: lazily(({ importJWK }) => importOnce((alg) => importJWK(jwk, alg))) };
}

/** Makes what finds the keys when the first one is looked for, since it needs jose. */
function lazily(make: (jose: typeof import("./jose.ts")) => KeySource["find"]): KeySource["find"] {
  let find: KeySource["find"] | undefined;
  return async (header) => {
    if (find === undefined) {
      const jose = await import("./jose.ts");
      // Several tokens may have waited for it.
      find ??= make(jose);
    }
    return await find(header);
  };
}

/** Imports a key once for each algorithm, which are few: jose has refused all but those in the rules by then. */
function importOnce(importFor: (algorithm: string) => Promise<VerificationKey>): KeySource["find"] {
  const imported = new Map<string, Promise<VerificationKey>>();
  return ({ alg }) => {
    const key = imported.get(alg) ?? importFor(alg);
    imported.set(alg, key);
    return key;
  };
}

function localKeySet(jwks: unknown): KeySource {
  const given: unknown = checkRecord("jwks", jwks).keys;
  if (!Array.isArray(given)) throw invalid("jwks.keys must be a list", given);
  const keys = given.map((key, index) => copyJwk(`jwks.keys[${index}]`, key));
  const algorithms = new Set(keys.flatMap((key) => jwkAlgorithms(key) ?? []));
  if (algorithms.size === 0) throw invalid(`jwks must hold a key ${ofUsableKind}`, "a set without");
  return {
    algorithms: [...algorithms],
    find: lazily(({ createLocalJWKSet }) => createLocalJWKSet({ keys })),
  };
}

function remoteKeySet(jwks: string | URL, options: BearerKeyOptions): KeySource {
  const url = URL.canParse(jwks) ? new URL(jwks) : undefined;
  if (url?.protocol !== "https:" && url?.protocol !== "http:") {
    // Not all of a url that was read: it may hold credentials.
    const found = url === undefined ? String(jwks) : `${url.protocol}//${url.host}`;
    throw invalid("jwks must be an https: or http: url, or an object with keys", found);
  }
  if (url.username !== "" || url.password !== "") {
    throw invalid("jwks must be a url without credentials", `one at ${url.host} with some`);
  }
  const times = {
    timeoutDuration: milliseconds("jwksTimeout", options.jwksTimeout, 5_000, 1),
    cacheMaxAge: milliseconds("jwksMaxAge", options.jwksMaxAge, 600_000),
    cooldownDuration: milliseconds("jwksCooldown", options.jwksCooldown, 30_000),
  };
  return { algorithms: asymmetric, find: lazily(({ createRemoteJWKSet }) => createRemoteJWKSet(url, times)) };
}

function spkiAlgorithms(der: Uint8Array): readonly string[] | undefined {
  // It stands behind the outer tag and length, and the latter takes one to three bytes.
  const start = der[1]! < 0x80 ? 2 : 2 + (der[1]! & 0x7f);
  const digits = Array.from(der.subarray(start, start + 24), (byte) => byte.toString(16).padStart(2, "0"));
  const hex = digits.join("");
  const algorithms = spkiKinds.find(([identifier]) => hex.startsWith(identifier))?.[1];
  return algorithms === rsa && der.length * 8 < MINIMUM_RSA_BITS ? undefined : algorithms;
}

function jwkAlgorithms({ kty, crv, n, use, alg }: JsonWebKey): readonly string[] | undefined {
  const rsaIfLong = typeof n === "string" && n.length * 6 >= MINIMUM_RSA_BITS ? rsa : undefined;
  const algorithms = kty === "RSA" ? rsaIfLong : kty === "EC" || kty === "OKP" ? curves.get(crv) : undefined;
  if (use !== undefined && use !== "sig") return undefined;
  return alg === undefined ? algorithms : algorithms?.includes(alg) ? [alg] : undefined;
}

function cryptoKeyAlgorithms(key: CryptoKey): readonly string[] {
  const { name, hash, namedCurve } = key.algorithm as Partial<RsaHashedKeyAlgorithm & EcKeyAlgorithm>;
  const bits = hash?.name.replace("SHA-", "");
  const candidates = name === "RSASSA-PKCS1-v1_5"
    ? [`RS${bits}`]
    : name === "RSA-PSS"
    ? [`PS${bits}`]
    : curves.get(name === "ECDSA" ? namedCurve : name);
  const algorithms = candidates?.filter((algorithm) => asymmetric.includes(algorithm)) ?? [];
  const isPublic = key.type === "public" && key.usages.includes("verify");
  if (!isPublic || algorithms.length === 0 || !isLongEnough(key)) {
    const found = `a ${key.type} key for ${name} with the usages ${key.usages.join(", ") || "none"}`;
    throw invalid(`publicKey must be a public CryptoKey with the usage verify, ${ofUsableKind}`, found);
  }
  return algorithms;
}

/** A copy, so that what the caller does to the object later changes nothing; and never one that can sign. */
function copyJwk(what: string, value: unknown): JsonWebKey {
  const { kty, ...rest } = checkRecord(what, value);
  for (const secret of ["d", "k", "priv"]) {
    if (secret in rest) throw invalid(`${what} must be a public key`, "a private or secret one");
  }
  if (typeof kty !== "string") throw invalid(`${what}.kty must be a string`, kty);
  return structuredClone({ kty, ...rest });
}

function milliseconds(name: string, given: unknown, standard: number, minimum = 0): number {
  return checkInteger(name, given ?? standard, minimum, MAX_MILLISECONDS);
}

function isLongEnough(key: VerificationKey): boolean {
  const bits = isCryptoKey(key) ? (key.algorithm as Partial<RsaKeyAlgorithm>).modulusLength : undefined;
  return bits === undefined || bits >= MINIMUM_RSA_BITS;
}

/** By its tag, as a key may come from another realm. */
function isCryptoKey(value: unknown): value is CryptoKey {
  return Object.prototype.toString.call(value) === "[object CryptoKey]";
}
