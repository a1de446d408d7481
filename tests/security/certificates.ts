/**
 * Certificates for tests, made on the spot: X.509 needs little enough DER for that.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { isIPv4 } from "node:net";

/** A certificate and its private key, PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** What a certificate says. */
export interface Subject {
  /** For a client the name of its account. */
  readonly commonName: string;
  /** Host names and IPv4 addresses. */
  readonly hosts?: readonly string[];
  /** When it ends. Default: tomorrow. */
  readonly notAfter?: Date;
}

const DAY_MS = 24 * 60 * 60 * 1_000;

const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_ID = 0x06;
const UTF8_STRING = 0x0c;
const UTC_TIME = 0x17;
const SEQUENCE = 0x30;
const SET = 0x31;
const DNS_NAME = 0x82;
const IP_ADDRESS = 0x87;
const TRUE = Buffer.from([0x01, 0x01, 0xff]);

const COMMON_NAME = "550403";
const KEY_USAGE = "551d0f";
const SUBJECT_ALT_NAME = "551d11";
const BASIC_CONSTRAINTS = "551d13";
const EXTENDED_KEY_USAGE = "551d25";
const SERVER_AUTH = "2b06010505070301";
const CLIENT_AUTH = "2b06010505070302";
const ECDSA_WITH_SHA256 = der(SEQUENCE, objectId("2a8648ce3d040302"));

/** The bits of a key's usage, with the number of unused bits before them. */
const SIGNS_CERTIFICATES = Buffer.from([0x02, 0x04]);
const SIGNS_HANDSHAKES = Buffer.from([0x07, 0x80]);

/** An authority that signs certificates. */
export class Authority {
  /** Its own certificate, PEM. */
  readonly cert: string;
  readonly #name: string;
  readonly #key: KeyObject;

  /** @param name Its common name. */
  constructor(name: string) {
    const { publicKey, privateKey } = newKeys();
    this.#name = name;
    this.#key = privateKey;
    this.cert = certificate(name, privateKey, publicKey, { commonName: name }, [
      extension(BASIC_CONSTRAINTS, der(SEQUENCE, TRUE), true),
      extension(KEY_USAGE, der(BIT_STRING, SIGNS_CERTIFICATES), true),
    ]);
  }

  /** Makes a certificate for a server or a client. */
  issue(subject: Subject): Certificate {
    const { publicKey, privateKey } = newKeys();
    return {
      cert: certificate(this.#name, this.#key, publicKey, subject, leafExtensions(subject)),
      key: pem(privateKey),
    };
  }
}

/** A certificate that no authority has signed. */
export function selfSigned(subject: Subject): Certificate {
  const { publicKey, privateKey } = newKeys();
  const extensions = leafExtensions(subject);
  return {
    cert: certificate(subject.commonName, privateKey, publicKey, subject, extensions),
    key: pem(privateKey),
  };
}

function leafExtensions({ hosts = [] }: Subject): Buffer[] {
  const names = hosts.map((host) =>
    isIPv4(host)
      ? der(IP_ADDRESS, Buffer.from(host.split(".").map(Number)))
      : der(DNS_NAME, Buffer.from(host))
  );
  return [
    extension(BASIC_CONSTRAINTS, der(SEQUENCE), true),
    extension(KEY_USAGE, der(BIT_STRING, SIGNS_HANDSHAKES), true),
    extension(EXTENDED_KEY_USAGE, der(SEQUENCE, objectId(SERVER_AUTH), objectId(CLIENT_AUTH))),
    ...(names.length === 0 ? [] : [extension(SUBJECT_ALT_NAME, der(SEQUENCE, ...names))]),
  ];
}

function certificate(
  issuer: string,
  issuerKey: KeyObject,
  publicKey: KeyObject,
  { commonName, notAfter = new Date(Date.now() + DAY_MS) }: Subject,
  extensions: readonly Buffer[],
): string {
  const notBefore = new Date(Math.min(Date.now(), notAfter.getTime()) - DAY_MS);
  const content = der(
    SEQUENCE,
    der(0xa0, der(INTEGER, Buffer.from([2]))),
    // Positive, as its first bit is not set, and without a leading zero.
    der(INTEGER, Buffer.concat([Buffer.from([0x40]), randomBytes(15)])),
    ECDSA_WITH_SHA256,
    distinguishedName(issuer),
    der(SEQUENCE, time(notBefore), time(notAfter)),
    distinguishedName(commonName),
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, der(SEQUENCE, ...extensions)),
  );
  const signature = sign("sha256", content, issuerKey);
  const bytes = der(SEQUENCE, content, ECDSA_WITH_SHA256, der(BIT_STRING, Buffer.from([0]), signature));
  const lines = bytes.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

function newKeys(): { publicKey: KeyObject; privateKey: KeyObject } {
  return generateKeyPairSync("ec", { namedCurve: "P-256" });
}

function pem(key: KeyObject): string {
  return String(key.export({ type: "pkcs8", format: "pem" }));
}

function distinguishedName(commonName: string): Buffer {
  const name = der(SEQUENCE, objectId(COMMON_NAME), der(UTF8_STRING, Buffer.from(commonName)));
  return der(SEQUENCE, der(SET, name));
}

function extension(id: string, value: Buffer, isCritical = false): Buffer {
  return der(SEQUENCE, objectId(id), ...(isCritical ? [TRUE] : []), der(OCTET_STRING, value));
}

function time(date: Date): Buffer {
  return der(UTC_TIME, Buffer.from(`${date.toISOString().replace(/[-:T]|\.\d+/g, "").slice(2)}`));
}

function objectId(hex: string): Buffer {
  return der(OBJECT_ID, Buffer.from(hex, "hex"));
}

function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  let size = [length];
  if (length > 0xff) size = [0x82, length >> 8, length & 0xff];
  else if (length > 0x7f) size = [0x81, length];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}
