/**
 * Payload keys that serve more than one message, since an RSA decryption for each would take longer than all the
 * rest of a request: a caller keeps its key for a service for a short while, and the service knows it again.
 * Each message still has an initialization vector and a signature of its own.
 *
 * @module
 */
import { createPayloadKey, decryptRequest } from "./encryption.ts";
import type { KeyedPayload, PayloadKey } from "./encryption.ts";

/** How long a caller uses a key, in ms. */
const CALLER_LIFETIME = 60_000;
/** How many messages a caller encrypts with one key. */
const CALLER_MESSAGES = 1_000;
/** How long a service remembers a key after its last use, in ms. */
const SERVICE_LIFETIME = 60_000;
/** How many keys a service remembers; Python callers have a new one for each message. */
const SERVICE_KEYS = 1_000;
const DOT = 0x2e;

interface CallerKey {
  readonly key: Promise<PayloadKey>;
  readonly until: number;
  left: number;
}

/** The keys that a caller uses now, one for each service's public key. */
export class CallerKeys {
  readonly #keys = new WeakMap<CryptoKey, CallerKey>();

  /** Encrypts a request or a command. */
  async encrypt(body: Uint8Array, publicKey: CryptoKey): Promise<KeyedPayload> {
    const key = await this.#keyFor(publicKey);
    return { body: await key.encrypt(body), key };
  }

  #keyFor(publicKey: CryptoKey): Promise<PayloadKey> {
    const now = Date.now();
    let current = this.#keys.get(publicKey);
    if (current === undefined || current.left === 0 || current.until < now) {
      current = { key: createPayloadKey(publicKey), until: now + CALLER_LIFETIME, left: CALLER_MESSAGES };
      this.#keys.set(publicKey, current);
    }
    current.left--;
    return current.key;
  }
}

/** Opens what is encrypted to a service, and remembers the keys it came with for a while. */
export class ServiceKeys {
  readonly #privateKey: CryptoKey;
  /** By the first part of the payload, the least recently used first. */
  readonly #known = new Map<string, { readonly key: PayloadKey; readonly until: number }>();
  readonly #decoder = new TextDecoder("latin1");

  /** @param privateKey The service's. */
  constructor(privateKey: CryptoKey) {
    this.#privateKey = privateKey;
  }

  /**
   * Decrypts a request or a command.
   *
   * @throws {NuropbMessageError} with one and the same text whatever is wrong with it.
   */
  async decrypt(body: Uint8Array): Promise<KeyedPayload> {
    const firstPart = this.#decoder.decode(body.subarray(0, Math.max(0, body.indexOf(DOT))));
    const known = this.#known.get(firstPart);
    const opened = known !== undefined && known.until > Date.now()
      ? { body: await known.key.decrypt(body), key: known.key }
      : await decryptRequest(body, this.#privateKey);
    // Remembered only now: what does not decrypt leaves nothing behind.
    this.#remember(firstPart, opened.key);
    return opened;
  }

  #remember(firstPart: string, key: PayloadKey): void {
    this.#known.delete(firstPart);
    this.#known.set(firstPart, { key, until: Date.now() + SERVICE_LIFETIME });
    for (const [oldest, { until }] of this.#known) {
      if (this.#known.size <= SERVICE_KEYS && until > Date.now()) break;
      this.#known.delete(oldest);
    }
  }
}
