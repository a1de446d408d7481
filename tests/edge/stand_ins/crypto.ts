/**
 * Stands in for `node:crypto` where there is no Node. WebCrypto makes keys, but not at once, so the runner has made
 * some and handed them over.
 *
 * @module
 */
import process from "./process.ts";

interface Exportable {
  export(): string;
}

/** One of the keys that were handed over, each of which is given once. */
export function generateKeyPairSync(): { privateKey: Exportable; publicKey: Exportable } {
  const [first, ...rest] = JSON.parse(process.env["NUROPB_TEST_KEYS"] ?? "[]");
  if (first === undefined) throw new Error("The runner has handed over too few keys");
  process.env["NUROPB_TEST_KEYS"] = JSON.stringify(rest);
  return { privateKey: { export: () => first.privatePem }, publicKey: { export: () => first.publicPem } };
}
