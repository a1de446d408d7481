/**
 * The service's side of the payload keys that serve more than one message.
 *
 * @module
 */
import { DOT } from "./encryption.ts";
import type { KeyedPayload, PayloadKey } from "./encryption.ts";
import { decryptRequest, generateServiceKey, importPrivateKey } from "./private_key.ts";
import type { PrivateKeyInput } from "./private_key.ts";

/** How long a service remembers a key after its last use, in ms. */
const LIFETIME = 60_000;
/** How many keys a service remembers; Python callers have a new one for each message. */
const KEYS = 1_000;

/**
 * Makes a service ready to take encrypted messages.
 *
 * @param given Its private key. Default: a new one.
 * @returns What opens messages, and the public key that callers encrypt them to, as SPKI PEM.
 */
export async function serviceKeys(
  given: PrivateKeyInput | undefined,
): Promise<{ readonly keys: ServiceKeys; readonly publicKeyPem: string }> {
  const { privateKey, publicKeyPem } = given === undefined
    ? await generateServiceKey()
    : await importPrivateKey(given);
  return { keys: new ServiceKeys(privateKey), publicKeyPem };
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
    this.#known.set(firstPart, { key, until: Date.now() + LIFETIME });
    for (const [oldest, { until }] of this.#known) {
      if (this.#known.size <= KEYS && until > Date.now()) break;
      this.#known.delete(oldest);
    }
  }
}
