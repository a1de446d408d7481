/**
 * RSA keys for the conformance tests of encryption. Making one takes a while, so each file makes its few once.
 *
 * @module
 */
import { generateKeyPairSync } from "node:crypto";

/** A service's keys as PEM. */
export interface KeyPems {
  /** PKCS8. */
  readonly privatePem: string;
  /** SPKI. */
  readonly publicPem: string;
}

/** Makes a new pair. */
export function makeKeys(): KeyPems {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return {
    privatePem: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
    publicPem: publicKey.export({ type: "spki", format: "pem" }) as string,
  };
}
