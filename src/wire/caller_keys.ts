/**
 * Payload keys that serve more than one message, since an RSA decryption for each would take longer than all the
 * rest of a request: a caller keeps its key for a service for a short while, and the service knows it again.
 * Each message still has an initialization vector and a signature of its own.
 *
 * @module
 */
import { createPayloadKey } from "./encryption.ts";
import type { KeyedPayload, PayloadKey } from "./encryption.ts";

/** How long a caller uses a key, in ms. */
const LIFETIME = 60_000;
/** How many messages a caller encrypts with one key. */
const MESSAGES = 1_000;

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
      current = { key: createPayloadKey(publicKey), until: now + LIFETIME, left: MESSAGES };
      this.#keys.set(publicKey, current);
    }
    current.left--;
    return current.key;
  }
}
