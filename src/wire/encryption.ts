/**
 * Encryption of payloads as NuroPb 0.1.8 does it, on WebCrypto: a Fernet key per request, itself encrypted to the
 * service's RSA key.
 *
 * ```text
 * body = base64(RSA-OAEP-SHA-256(text of the Fernet key)) "." base64(Fernet token in base64url)
 * ```
 *
 * @module
 */
import { NuropbMessageError, NuropbValidationError } from "../errors.ts";
import { decodeBase64, encodeBase64, encodeBase64Into, encodedLength } from "./base64.ts";
import { FernetKey } from "./fernet.ts";
import { readPem } from "./pem.ts";

/** A payload and the key that it, and later the answer, is encrypted with. */
export interface KeyedPayload {
  /** Encrypted where it goes out, plain where it came in. */
  readonly body: Uint8Array<ArrayBuffer>;
  /** For the answer. */
  readonly key: PayloadKey;
}

/** As Python has it. */
export const RSA = { name: "RSA-OAEP", hash: "SHA-256" } as const;
/** Of an RSA key. */
export const MINIMUM_BITS = 2048;
/** Between a payload's key and its token. */
export const DOT = 0x2e;

/** The key of one request and its answer. Opaque: it shows nothing when inspected, logged or serialized. */
export class PayloadKey {
  readonly #fernet: FernetKey;
  readonly #firstPart: Uint8Array;

  /**
   * Keeps the key in both of its forms.
   *
   * @param fernet Encrypts the payloads.
   * @param firstPart The same key encrypted to the service, in base64. An answer begins with it, too: nobody reads
   *   it there, and to echo it costs nothing where Python encrypts anew.
   */
  constructor(fernet: FernetKey, firstPart: Uint8Array) {
    this.#fernet = fernet;
    this.#firstPart = firstPart;
  }

  /** Encrypts a payload. */
  async encrypt(body: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    return join(this.#firstPart, await this.#fernet.encrypt(body));
  }

  /**
   * Decrypts a payload.
   *
   * @throws {NuropbMessageError} with one and the same text whatever is wrong with it.
   */
  async decrypt(body: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    const token = tokenOf(body, body.indexOf(DOT));
    const plain = token === undefined ? undefined : await this.#fernet.decrypt(token);
    if (plain === undefined) throw undecryptable();
    return plain;
  }
}

/**
 * Reads the public key that a service describes itself with.
 *
 * @param pem SPKI PEM, of an RSA key of at least 2048 bits.
 * @throws {NuropbMessageError} when it is none.
 */
export async function importPublicKey(pem: string): Promise<CryptoKey> {
  const der = readPem(pem, "PUBLIC KEY");
  const key = der && await subtle().importKey("spki", der, RSA, true, ["encrypt"]).catch(() => undefined);
  if (key === undefined || bitsOf(key) < MINIMUM_BITS) {
    throw new NuropbMessageError(
      `The public key of a service must be an RSA key of at least ${MINIMUM_BITS} bits as SPKI PEM, but is none`,
    );
  }
  return key;
}

/**
 * Encrypts a request or a command, with a key of its own.
 *
 * @param publicKey The service's, from {@linkcode importPublicKey}.
 * @returns The body to send, and the key that will decrypt the answer.
 */
export async function encryptRequest(body: Uint8Array, publicKey: CryptoKey): Promise<KeyedPayload> {
  const key = await createPayloadKey(publicKey);
  return { body: await key.encrypt(body), key };
}

/** Makes a key that a service's private key opens. */
export async function createPayloadKey(publicKey: CryptoKey): Promise<PayloadKey> {
  const { key, text } = FernetKey.generate();
  const wrapped = new Uint8Array(await subtle().encrypt(RSA, publicKey, text));
  return new PayloadKey(key, encodeBase64(wrapped, "base64"));
}

/** One error for all that can go wrong, so that nobody learns what did. */
export function undecryptable(): NuropbMessageError {
  return new NuropbMessageError("The encrypted payload cannot be decrypted");
}

function join(firstPart: Uint8Array, token: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = encodeBase64(token, "base64url");
  const body = new Uint8Array(firstPart.length + 1 + encodedLength(text.length));
  body.set(firstPart);
  body[firstPart.length] = DOT;
  encodeBase64Into(text, "base64", body, firstPart.length + 1);
  return body;
}

/** The Fernet token after the dot, out of both its layers of base64. */
export function tokenOf(body: Uint8Array, dot: number): Uint8Array<ArrayBuffer> | undefined {
  const text = dot === -1 ? undefined : decodeBase64(body.subarray(dot + 1));
  return text && decodeBase64(text);
}

/** The length of an RSA key. */
export function bitsOf(key: CryptoKey): number {
  return (key.algorithm as Partial<RsaKeyAlgorithm>).modulusLength ?? 0;
}

/** WebCrypto, or an error that says why there is none. */
export function subtle(): SubtleCrypto {
  const { subtle } = globalThis.crypto;
  if (subtle === undefined) {
    // Its type says that it is always there; browsers leave it out of pages that came over plain http.
    throw new NuropbValidationError("Encryption needs crypto.subtle: serve the page over https", {
      code: "INVALID_ARGUMENT",
    });
  }
  return subtle;
}
