/**
 * Keys as PEM text.
 *
 * @module
 */
import { decodeBase64, encodeBase64 } from "./base64.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const boundary = /-----(?:BEGIN|END) [A-Z0-9 ]{1,40}-----/;

/** The first line of the first PEM block in a text. It can be shown: nothing of the key is in it. */
export function pemHeader(text: string): string | undefined {
  return boundary.exec(text)?.[0];
}

/**
 * The bytes of the first PEM block in a text, or `undefined` when there is none of that label.
 *
 * @param label `PUBLIC KEY` for SPKI, `PRIVATE KEY` for PKCS8.
 */
export function readPem(text: string, label: string): Uint8Array<ArrayBuffer> | undefined {
  if (pemHeader(text) !== `-----BEGIN ${label}-----`) return undefined;
  const [, base64, rest] = text.split(boundary, 3);
  if (base64 === undefined || rest === undefined) return undefined;
  return decodeBase64(encoder.encode(base64.replace(/\s+/g, "")));
}

/** Bytes as PEM text, which ends in a line feed. */
export function writePem(bytes: Uint8Array, label: string): string {
  const lines = decoder.decode(encodeBase64(bytes, "base64")).match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}
