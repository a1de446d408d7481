import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { beforeAll, describe, it } from "@std/testing/bdd";
import { NuropbMessageError } from "../../src/errors.ts";
import { CallerKeys } from "../../src/wire/caller_keys.ts";
import { createPayloadKey, importPublicKey } from "../../src/wire/encryption.ts";
import type { PayloadKey } from "../../src/wire/encryption.ts";
import { FernetKey } from "../../src/wire/fernet.ts";
import { decryptRequest, generateServiceKey } from "../../src/wire/private_key.ts";
import type { ServiceKey } from "../../src/wire/private_key.ts";
import { ServiceKeys } from "../../src/wire/service_keys.ts";
import { damaged, damages } from "./arbitraries.ts";
import { checkAsync, settledOutcomeOf } from "./property.ts";

const bodies = fc.oneof(
  fc.uint8Array({ maxLength: 100 }),
  fc.uint8Array({ minLength: 1_000, maxLength: 3_000, size: "max" }),
);
const dot = ".".charCodeAt(0);
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

/** What is decrypted is what was encrypted, or nothing; and the error never tells what was wrong. */
async function opensAs(plain: Uint8Array, decrypt: () => Promise<Uint8Array>): Promise<void> {
  const { value, error } = await settledOutcomeOf(decrypt, NuropbMessageError);
  if (value !== undefined) assert.equal(hex(value), hex(plain));
  else {
    assert.equal(error?.message, "The encrypted payload cannot be decrypted");
    assert.equal(error?.cause, undefined);
  }
}

describe("an encrypted payload", () => {
  let service: ServiceKey;
  let stranger: ServiceKey;
  let publicKey: CryptoKey;
  let key: PayloadKey;
  beforeAll(async () => {
    [service, stranger] = await Promise.all([generateServiceKey(), generateServiceKey()]);
    publicKey = await importPublicKey(service.publicKeyPem);
    key = await createPayloadKey(publicKey);
  });

  it("comes back as it was, for a service and for its caller", async () => {
    const callers = new CallerKeys();
    const services = new ServiceKeys(service.privateKey);
    await checkAsync(
      1_000,
      fc.asyncProperty(bodies, bodies, async (params, result) => {
        const request = await callers.encrypt(params, publicKey);
        const opened = await services.decrypt(request.body);
        assert.equal(hex(opened.body), hex(params));
        const answer = await opened.key.encrypt(result);
        assert.equal(hex(await request.key.decrypt(answer)), hex(result));
      }),
    );
  });

  it("that was damaged anywhere is refused, or is still the same", async () => {
    await checkAsync(
      4_000,
      fc.asyncProperty(bodies, damages, async (plain, all) => {
        const body = damaged(await key.encrypt(plain), all);
        await opensAs(plain, () => key.decrypt(body));
      }),
    );
  });

  it("that was damaged anywhere is refused by a service that knows its key, or is still the same", async () => {
    const services = new ServiceKeys(service.privateKey);
    await services.decrypt(await key.encrypt(new Uint8Array(1)));
    await checkAsync(
      1_000,
      fc.asyncProperty(bodies, damages, async (plain, all) => {
        const body = damaged(await key.encrypt(plain), all);
        await opensAs(plain, async () => (await services.decrypt(body)).body);
      }),
    );
  });

  it("of which each single bit was flipped is refused, or is still the same", async () => {
    const plain = new TextEncoder().encode("a body that takes more than one block of the cipher");
    const body = await key.encrypt(plain);
    const after = body.indexOf(dot);
    await checkAsync(
      1_000,
      fc.asyncProperty(fc.integer({ min: after, max: body.length - 1 }), fc.nat(7), async (at, bit) => {
        const flipped = Uint8Array.from(body);
        flipped[at]! ^= 1 << bit;
        await opensAs(plain, () => key.decrypt(flipped));
      }),
    );
  });

  it("of which the token itself was damaged is refused, without any exception to it", async () => {
    const { key: fernet } = FernetKey.generate();
    await checkAsync(
      2_000,
      fc.asyncProperty(bodies, damages, async (plain, all) => {
        const token = await fernet.encrypt(plain);
        const changed = damaged(token, all);
        const opened = await fernet.decrypt(changed);
        if (hex(changed) === hex(token)) assert.equal(hex(opened!), hex(plain));
        else assert.equal(opened, undefined);
      }),
    );
  });

  it("is refused by whoever has another key", async () => {
    const other = await createPayloadKey(publicKey);
    await checkAsync(
      200,
      fc.asyncProperty(bodies, async (plain) => {
        const body = await key.encrypt(plain);
        for (const decrypt of [() => other.decrypt(body), () => decryptRequest(body, stranger.privateKey)]) {
          const { error } = await settledOutcomeOf<unknown>(decrypt, NuropbMessageError);
          assert.ok(error !== undefined);
        }
      }),
    );
  });

  it("that is no such thing is refused by service and caller", async () => {
    const pieces = fc.array(
      fc.oneof(
        fc.uint8Array({ maxLength: 20 }),
        fc.constant(Uint8Array.of(dot)),
        fc.base64String({ maxLength: 400, size: "max" }).map((text) => new TextEncoder().encode(text)),
      ),
      { maxLength: 4 },
    );
    const services = new ServiceKeys(service.privateKey);
    await checkAsync(
      800,
      fc.asyncProperty(pieces, async (parts) => {
        const body = new Uint8Array(Buffer.concat(parts));
        for (const decrypt of [() => key.decrypt(body), () => services.decrypt(body)]) {
          const { error } = await settledOutcomeOf<unknown>(decrypt, NuropbMessageError);
          assert.equal(error?.message, "The encrypted payload cannot be decrypted");
        }
      }),
    );
  });
});
