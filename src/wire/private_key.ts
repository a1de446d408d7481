/**
 * A service's private key, and what it opens. Loaded by services that take encrypted messages.
 *
 * @module
 */
import { invalid } from "../options.ts";
import { decodeBase64 } from "./base64.ts";
import {
  bitsOf,
  DOT,
  encryptRequest,
  importPublicKey,
  MINIMUM_BITS,
  PayloadKey,
  RSA,
  subtle,
  tokenOf,
  undecryptable,
} from "./encryption.ts";
import type { KeyedPayload } from "./encryption.ts";
import { FernetKey } from "./fernet.ts";
import { pemHeader, readPem, writePem } from "./pem.ts";

/** The private key of a service, or both of its keys: RSA of at least 2048 bits. */
export type PrivateKeyInput = string | CryptoKey | CryptoKeyPair;

/** What a service needs to take encrypted requests. */
export interface ServiceKey {
  /** Decrypts requests. */
  readonly privateKey: CryptoKey;
  /** What callers encrypt to, as `describe` gives it: SPKI PEM. */
  readonly publicKeyPem: string;
}

/**
 * Reads the private key of a service.
 *
 * @param input One of: PKCS8 PEM; an extractable private `CryptoKey` for RSA-OAEP with SHA-256 and the usage
 *   `decrypt`; a `CryptoKeyPair` for the same, where the private key need not be extractable, as the public one
 *   cannot be derived from such a key.
 * @throws {NuropbValidationError} `INVALID_ARGUMENT` when it is none of these. Nothing of the key is in the text.
 */
export async function importPrivateKey(input: PrivateKeyInput): Promise<ServiceKey> {
  if (typeof input === "string") return await importPrivatePem(input);
  if (isCryptoKey(input)) {
    checkPrivateKey(input);
    if (!input.extractable) {
      throw invalid(
        "privateKey must be extractable, or be given together with its public key as { privateKey, publicKey }",
        "a CryptoKey that is not extractable",
      );
    }
    return { privateKey: input, publicKeyPem: await derivePublicPem(input) };
  }
  if (typeof input === "object" && input !== null && isCryptoKey(input.privateKey)) {
    checkPrivateKey(input.privateKey);
    const publicKeyPem = await exportPublicPem(input.publicKey);
    await checkPair(input.privateKey, publicKeyPem);
    return { privateKey: input.privateKey, publicKeyPem };
  }
  throw invalid("privateKey must be PKCS8 PEM, a CryptoKey, or a CryptoKeyPair", input);
}

/** Makes a key for a service that has none: RSA of 2048 bits, the private key not extractable. */
export async function generateServiceKey(): Promise<ServiceKey> {
  const parameters = { ...RSA, modulusLength: MINIMUM_BITS, publicExponent: Uint8Array.of(1, 0, 1) };
  const { privateKey, publicKey } = await subtle().generateKey(parameters, false, ["encrypt", "decrypt"]);
  return { privateKey, publicKeyPem: await exportPublicPem(publicKey) };
}

/**
 * Decrypts a request or a command.
 *
 * @param privateKey The service's, from {@linkcode importPrivateKey}.
 * @returns The plain body, and the key to encrypt the answer with.
 * @throws {NuropbMessageError} with one and the same text whatever is wrong with it.
 */
export async function decryptRequest(body: Uint8Array, privateKey: CryptoKey): Promise<KeyedPayload> {
  const dot = body.indexOf(DOT);
  // A copy, since the key outlives the message; `slice` of Node's Buffer would give a view.
  const firstPart = Uint8Array.from(body.subarray(0, Math.max(dot, 0)));
  const wrapped = decodeBase64(firstPart);
  const token = tokenOf(body, dot);
  if (wrapped === undefined || token === undefined) throw undecryptable();
  const text = await subtle().decrypt(RSA, privateKey, wrapped).catch(() => undefined);
  // Without a key it goes on with one that opens nothing, so that not even the time tells which part was wrong.
  const fernet = FernetKey.fromText(text && new Uint8Array(text));
  const plain = await fernet.decrypt(token);
  if (plain === undefined) throw undecryptable();
  return { body: plain, key: new PayloadKey(fernet, firstPart) };
}

async function importPrivatePem(pem: string): Promise<ServiceKey> {
  const header = "-----BEGIN PRIVATE KEY-----";
  const rule = `privateKey must be an RSA key as unencrypted PKCS8 PEM, which begins with ${header}`;
  const found = pemHeader(pem) ?? "some other text";
  if (found !== header) throw invalid(rule, found);
  const der = readPem(pem, "PRIVATE KEY");
  if (der === undefined) throw invalid(rule, "damaged PEM");
  // Extractable for as long as it takes to derive the public key.
  const extractable = await subtle().importKey("pkcs8", der, RSA, true, ["decrypt"]).catch(() => undefined);
  if (extractable === undefined) throw invalid(rule, "PEM of another key, or damaged");
  checkPrivateKey(extractable);
  const publicKeyPem = await derivePublicPem(extractable);
  return { privateKey: await subtle().importKey("pkcs8", der, RSA, false, ["decrypt"]), publicKeyPem };
}

function checkPrivateKey(key: CryptoKey): void {
  if (key.type !== "private") throw invalid("privateKey must be a private key", `a ${key.type} key`);
  checkRsa("privateKey", key);
  if (!key.usages.includes("decrypt")) {
    throw invalid('privateKey must have the usage "decrypt"', key.usages.join(", "));
  }
}

function checkRsa(what: string, key: CryptoKey): void {
  const { name, hash } = key.algorithm as Partial<RsaHashedKeyAlgorithm>;
  if (name !== RSA.name || hash?.name !== RSA.hash) {
    throw invalid(`${what} must be for RSA-OAEP with SHA-256`, `for ${name} with ${hash?.name ?? "no hash"}`);
  }
  const bits = bitsOf(key);
  if (bits < MINIMUM_BITS) throw invalid(`${what} must have at least ${MINIMUM_BITS} bits`, bits);
}

/** Says so now if they do not belong together: later every request would fail. */
async function checkPair(privateKey: CryptoKey, publicKeyPem: string): Promise<void> {
  const publicKey = await importPublicKey(publicKeyPem);
  try {
    await decryptRequest((await encryptRequest(new Uint8Array(0), publicKey)).body, privateKey);
  } catch {
    throw invalid("publicKey must belong to privateKey", "another one's");
  }
}

async function derivePublicPem(privateKey: CryptoKey): Promise<string> {
  const { kty, n, e } = await subtle().exportKey("jwk", privateKey) as JsonWebKey;
  const jwk = { kty, n, e } as JsonWebKey;
  return await exportPublicPem(await subtle().importKey("jwk", jwk, RSA, true, ["encrypt"]));
}

async function exportPublicPem(key: CryptoKey): Promise<string> {
  if (!isCryptoKey(key) || key.type !== "public" || !key.extractable) {
    throw invalid("publicKey must be an extractable public CryptoKey", key);
  }
  checkRsa("publicKey", key);
  return writePem(new Uint8Array(await subtle().exportKey("spki", key)), "PUBLIC KEY");
}

/** By its tag, as a key may come from another realm. */
function isCryptoKey(value: unknown): value is CryptoKey {
  return Object.prototype.toString.call(value) === "[object CryptoKey]";
}
