/**
 * Stands in for `node:buffer` where there is no Node: base64, which is what the tests need of it.
 *
 * @module
 */

/** The part of Node's that is used. */
export const Buffer = {
  from(content: string | Uint8Array): { toString(encoding: "base64"): string } {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    return { toString: () => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) };
  },
};
