import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { decodeBase64, encodeBase64, encodeBase64Into, encodedLength } from "../../src/wire/base64.ts";
import { FernetKey } from "../../src/wire/fernet.ts";
import vectors from "./vectors/encrypted.json" with { type: "json" };

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe("base64", () => {
  it("is that of the runtime, for every length and in both alphabets", () => {
    for (let length = 0; length < 70; length++) {
      const data = crypto.getRandomValues(new Uint8Array(length));
      const expected = btoa(String.fromCharCode(...data));
      // A plain object's method in the way makes it take its own encoder, which runtimes without one of theirs use.
      const portable = Object.defineProperty(data.slice(), "toBase64", { value: undefined });
      for (const source of [data, portable]) {
        assert.equal(text(encodeBase64(source, "base64")), expected);
        const url = expected.replaceAll("+", "-").replaceAll("/", "_");
        assert.equal(text(encodeBase64(source, "base64url")), url);
        assert.deepEqual(decodeBase64(bytes(url)), data);
      }
      assert.equal(encodedLength(length), expected.length);
      assert.deepEqual(decodeBase64(bytes(expected)), data);
    }
  });

  it("writes where it is told, and nowhere else", () => {
    const target = new Uint8Array(8).fill(0x2a);
    encodeBase64Into(bytes("abc"), "base64", target, 2);
    assert.equal(text(target), "**YWJj**");
  });

  for (
    const bad of [
      "a",
      "ab",
      "abc",
      "abcde",
      "ab c",
      "abc\n",
      "====",
      "a===",
      "=abc",
      "ab=c",
      "ab==abcd",
      "abc§",
      "a*bc",
    ]
  ) {
    it(`is not ${JSON.stringify(bad)}`, () => assert.equal(decodeBase64(bytes(bad)), undefined));
  }
});

describe("Fernet", () => {
  const { key, token, text: plain } = vectors.fernet;

  it("opens the token of the specification, however old", async () => {
    const opened = await FernetKey.fromText(bytes(key)).decrypt(decodeBase64(bytes(token))!);
    assert.equal(text(opened!), plain);
  });

  it("begins a token with the version and the time in seconds", async () => {
    const made = await FernetKey.fromText(bytes(key)).encrypt(bytes(plain));
    assert.equal(made[0], 0x80);
    const seconds = Number(new DataView(made.buffer).getBigUint64(1));
    assert(Math.abs(seconds - Date.now() / 1000) < 60, `${seconds}`);
  });

  for (const bad of [undefined, "", "short", key.slice(4), `${key}${key}`, key.replace("c", "*")]) {
    it(`makes of the key ${bad} one that opens nothing`, async () => {
      const other = FernetKey.fromText(bad === undefined ? undefined : bytes(bad));
      assert.equal(await other.decrypt(decodeBase64(bytes(token))!), undefined);
    });
  }
});
