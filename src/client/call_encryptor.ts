/**
 * Encrypts calls to the public keys of their services. Loaded with the first call that is to be encrypted.
 *
 * @module
 */
import type { ServiceDescription } from "../calls.ts";
import { NuropbMessageError } from "../errors.ts";
import { importPublicKey } from "../wire/encryption.ts";
import type { KeyedPayload } from "../wire/encryption.ts";
import { CallerKeys } from "../wire/caller_keys.ts";

/** Keeps the keys that calls are encrypted with. */
export class CallEncryptor {
  readonly #keys = new CallerKeys();
  readonly #publicKeys = new Map<string, Promise<CryptoKey>>();

  /**
   * Encrypts a call's body.
   *
   * @throws {NuropbMessageError} when the service has no public key.
   */
  async encrypt(body: Uint8Array, service: ServiceDescription): Promise<KeyedPayload> {
    return await this.#keys.encrypt(body, await this.#publicKey(service));
  }

  async #publicKey({ name, publicKey }: ServiceDescription): Promise<CryptoKey> {
    if (publicKey === null) {
      throw new NuropbMessageError(`${name} has no public key, so nothing can be encrypted to it`);
    }
    let key = this.#publicKeys.get(publicKey);
    if (key === undefined) {
      key = importPublicKey(publicKey).catch((cause: unknown) => {
        // Such as that a page has no WebCrypto, which is no fault of the key's.
        if (!(cause instanceof NuropbMessageError)) throw cause;
        throw new NuropbMessageError(`Nothing can be encrypted to ${name}: its public key cannot be used`, {
          cause,
        });
      });
      this.#publicKeys.set(publicKey, key);
    }
    return await key;
  }
}
