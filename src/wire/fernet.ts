/**
 * Fernet tokens (https://github.com/fernet/spec) over WebCrypto: AES-128-CBC under HMAC-SHA256.
 *
 * ```text
 * version 0x80 | time, 8 bytes | IV, 16 bytes | ciphertext | HMAC of all that, 32 bytes
 * ```
 *
 * @module
 */
import { decodeBase64, encodeBase64 } from "./base64.ts";

const VERSION = 0x80;
const TIME_AT = 1;
const IV_AT = 9;
const CIPHERTEXT_AT = 25;
const BLOCK_BYTES = 16;
const MAC_BYTES = 32;
const SECRET_BYTES = 32;

/** A Fernet key. What it is made of can be neither seen nor exported. */
export class FernetKey {
  readonly #signing: Promise<CryptoKey>;
  readonly #encrypting: Promise<CryptoKey>;

  private constructor(secret: Uint8Array<ArrayBuffer>) {
    const { subtle } = globalThis.crypto;
    const [forSigning, forEncrypting] = [secret.subarray(0, 16), secret.subarray(16)];
    const hmac = { name: "HMAC", hash: "SHA-256" };
    this.#signing = subtle.importKey("raw", forSigning, hmac, false, ["sign", "verify"]);
    this.#encrypting = subtle.importKey("raw", forEncrypting, "AES-CBC", false, ["encrypt", "decrypt"]);
  }

  /** A new key, and its 44 characters of text: the one time that they are seen. */
  static generate(): { key: FernetKey; text: Uint8Array<ArrayBuffer> } {
    const secret = globalThis.crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
    return { key: new FernetKey(secret), text: encodeBase64(secret, "base64url") };
  }

  /** The key of a text. For `undefined`, or a text that is none, a key that nobody has, and that opens nothing. */
  static fromText(text: Uint8Array | undefined): FernetKey {
    const secret = text === undefined ? undefined : decodeBase64(text);
    return secret?.length === SECRET_BYTES ? new FernetKey(secret) : FernetKey.generate().key;
  }

  /** A token as bytes, not yet in base64. */
  async encrypt(body: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    const { crypto } = globalThis;
    const iv = crypto.getRandomValues(new Uint8Array(BLOCK_BYTES));
    // WebCrypto refuses shared memory by itself, which is all that the type leaves out.
    const data = body as Uint8Array<ArrayBuffer>;
    const ciphertext = await crypto.subtle.encrypt({ name: "AES-CBC", iv }, await this.#encrypting, data);
    const signedBytes = CIPHERTEXT_AT + ciphertext.byteLength;
    const token = new Uint8Array(signedBytes + MAC_BYTES);
    token[0] = VERSION;
    new DataView(token.buffer).setBigUint64(TIME_AT, BigInt(Math.floor(Date.now() / 1000)));
    token.set(iv, IV_AT);
    token.set(new Uint8Array(ciphertext), CIPHERTEXT_AT);
    const mac = await crypto.subtle.sign("HMAC", await this.#signing, token.subarray(0, signedBytes));
    token.set(new Uint8Array(mac), signedBytes);
    return token;
  }

  /** What a token holds, or `undefined` when it is none, or not of this key. Its time is not looked at. */
  async decrypt(token: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const { subtle } = globalThis.crypto;
    const signedBytes = token.length - MAC_BYTES;
    const cipherBytes = signedBytes - CIPHERTEXT_AT;
    if (cipherBytes < BLOCK_BYTES || cipherBytes % BLOCK_BYTES !== 0 || token[0] !== VERSION) {
      return undefined;
    }
    const signed = token.subarray(0, signedBytes);
    if (!await subtle.verify("HMAC", await this.#signing, token.subarray(signedBytes), signed)) {
      return undefined;
    }
    const iv = token.subarray(IV_AT, CIPHERTEXT_AT);
    try {
      const ciphertext = token.subarray(CIPHERTEXT_AT, signedBytes);
      return new Uint8Array(
        await subtle.decrypt({ name: "AES-CBC", iv }, await this.#encrypting, ciphertext),
      );
    } catch {
      // The padding is wrong, though the HMAC is right.
      return undefined;
    }
  }
}
