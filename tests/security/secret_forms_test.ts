import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { inspect } from "node:util";
import { describe, it } from "@std/testing/bdd";
import { secretsIn } from "./secret_forms.ts";

const text = "open / sesame & ü";
const bytes = Uint8Array.from({ length: 16 }, (_value, index) => 7 * index + 150);
const secrets = { password: text, key: bytes };

const shown: Readonly<Record<string, string>> = {
  "as it is": `error: ${text}!`,
  "in a url": `amqp://user:${encodeURIComponent(text)}@localhost`,
  "in JSON": JSON.stringify({ nested: [text] }),
  "in base64": Buffer.from(text).toString("base64"),
  "in an Authorization header": Buffer.from(`user:${text}`).toString("base64"),
  "in the header of a longer name": Buffer.from(`user1:${text}, and more`).toString("base64url"),
  "in hexadecimal digits": Buffer.from(`<${text}>`).toString("hex"),
  "in a Buffer": inspect(Buffer.from(text)),
};

const shownBytes: Readonly<Record<string, string>> = {
  "in an array": inspect(bytes, { maxArrayLength: null }),
  "in JSON": JSON.stringify([...bytes]),
  "in base64": Buffer.concat([Buffer.from("x"), bytes, Buffer.from("y")]).toString("base64"),
};

describe("the search for secrets", () => {
  for (const [how, output] of Object.entries(shown)) {
    it(`finds a text ${how}`, () => assert.match(`${secretsIn(output, secrets)}`, /password/));
  }
  for (const [how, output] of Object.entries(shownBytes)) {
    it(`finds bytes ${how}`, () => assert.match(`${secretsIn(output, secrets)}`, /key/));
  }
  it("finds nothing else", () =>
    assert.deepEqual(secretsIn("open your eyes, and close the door", secrets), []));
});
