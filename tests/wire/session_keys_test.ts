import assert from "node:assert/strict";
import { afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { NuropbMessageError } from "../../src/errors.ts";
import { CallerKeys } from "../../src/wire/caller_keys.ts";
import { createPayloadKey, encryptRequest, importPublicKey } from "../../src/wire/encryption.ts";
import { decryptRequest, generateServiceKey } from "../../src/wire/private_key.ts";
import type { ServiceKey } from "../../src/wire/private_key.ts";
import { ServiceKeys } from "../../src/wire/service_keys.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const firstPart = (body: Uint8Array) => text(body).split(".")[0]!;

const SECOND = 1_000;
const LIFETIME = 60 * SECOND;
const CALLER_MESSAGES = 1_000;
const SERVICE_KEYS = 1_000;

describe("payload keys that serve more than one message", () => {
  let own: ServiceKey;
  let foreign: ServiceKey;
  let publicKey: CryptoKey;
  let rsaDecryptions: number;
  let now: number;
  const { decrypt } = SubtleCrypto.prototype;
  const realNow = Date.now;

  beforeAll(async () => {
    [own, foreign] = await Promise.all([generateServiceKey(), generateServiceKey()]);
    publicKey = await importPublicKey(own.publicKeyPem);
  });

  beforeEach(() => {
    now = realNow();
    Date.now = () => now;
    rsaDecryptions = 0;
    SubtleCrypto.prototype.decrypt = function (this: SubtleCrypto, ...args: Parameters<typeof decrypt>) {
      if ((args[0] as { name?: string }).name === "RSA-OAEP") rsaDecryptions++;
      return decrypt.apply(this, args);
    };
  });

  afterEach(() => {
    Date.now = realNow;
    SubtleCrypto.prototype.decrypt = decrypt;
  });

  describe("at a caller", () => {
    const encrypt = async (keys: CallerKeys, count: number) => {
      const bodies: Uint8Array[] = [];
      for (let sent = 0; sent < count; sent++) bodies.push((await keys.encrypt(bytes("{}"), publicKey)).body);
      return bodies;
    };

    it("stay the same from message to message, and no two messages are alike", async () => {
      const bodies = await encrypt(new CallerKeys(), 10);
      assert.equal(new Set(bodies.map(firstPart)).size, 1);
      assert.equal(new Set(bodies.map(text)).size, 10);
    });

    it("are the same for messages that are encrypted at once", async () => {
      const keys = new CallerKeys();
      const sealed = await Promise.all(
        Array.from({ length: 10 }, () => keys.encrypt(bytes("{}"), publicKey)),
      );
      assert.equal(new Set(sealed.map(({ body }) => firstPart(body))).size, 1);
      assert.equal(new Set(sealed.map(({ key }) => key)).size, 1);
    });

    it("open every answer, of whichever message", async () => {
      const keys = new CallerKeys();
      const service = new ServiceKeys(own.privateKey);
      const sealed = await Promise.all(["a", "b"].map((body) => keys.encrypt(bytes(body), publicKey)));
      for (const { body, key } of sealed) {
        const opened = await service.decrypt(body);
        const answer = await opened.key.encrypt(bytes(`answer to ${text(opened.body)}`));
        assert.match(text(await key.decrypt(answer)), /^answer to [ab]$/);
      }
    });

    it("are renewed after 1 000 messages", async () => {
      const keys = new CallerKeys();
      const firstParts = (await encrypt(keys, CALLER_MESSAGES + 1)).map(firstPart);
      assert.equal(new Set(firstParts.slice(0, CALLER_MESSAGES)).size, 1);
      assert.notEqual(firstParts[CALLER_MESSAGES], firstParts[0]);
      assert.equal(firstPart((await encrypt(keys, 1))[0]!), firstParts[CALLER_MESSAGES]);
    });

    it("are renewed after 1 000 messages at once, too", async () => {
      const keys = new CallerKeys();
      const sealed = await Promise.all(
        Array.from({ length: CALLER_MESSAGES + 1 }, () => keys.encrypt(bytes("{}"), publicKey)),
      );
      assert.equal(new Set(sealed.map(({ key }) => key)).size, 2);
    });

    it("are renewed after a minute, however often they are used", async () => {
      const keys = new CallerKeys();
      const [before] = await encrypt(keys, 1);
      now += LIFETIME;
      const [later] = await encrypt(keys, 1);
      assert.equal(firstPart(later!), firstPart(before!));
      now += 1;
      const [after] = await encrypt(keys, 1);
      assert.notEqual(firstPart(after!), firstPart(before!));
    });

    it("are others for another service, and for another caller", async () => {
      const other = await importPublicKey(foreign.publicKeyPem);
      const keys = new CallerKeys();
      const mine = await keys.encrypt(bytes("{}"), publicKey);
      const theirs = await keys.encrypt(bytes("{}"), other);
      const another = await new CallerKeys().encrypt(bytes("{}"), publicKey);
      assert.equal(new Set([mine, theirs, another].map(({ body }) => firstPart(body))).size, 3);
      assert.equal((await keys.encrypt(bytes("{}"), publicKey)).key, mine.key);
      await assert.rejects(
        mine.key.decrypt(await theirs.key.encrypt(bytes("{}"))),
        NuropbMessageError,
      );
    });
  });

  describe("at a service", () => {
    /** A sender that makes a key for each message, as Python does. */
    const sealedAnew = async (body = "{}") => (await encryptRequest(bytes(body), publicKey)).body;

    it("are known again: the private key is used for the first message alone", async () => {
      const service = new ServiceKeys(own.privateKey);
      const key = await createPayloadKey(publicKey);
      for (let message = 0; message < 20; message++) {
        const opened = await service.decrypt(await key.encrypt(bytes(`message ${message}`)));
        assert.equal(text(opened.body), `message ${message}`);
      }
      assert.equal(rsaDecryptions, 1);
    });

    it("are not known to another service, nor after a restart", async () => {
      const body = await sealedAnew();
      for (let start = 0; start < 2; start++) await new ServiceKeys(own.privateKey).decrypt(body);
      assert.equal(rsaDecryptions, 2);
      const other = new ServiceKeys(foreign.privateKey);
      await assert.rejects(other.decrypt(body), NuropbMessageError);
    });

    it("are at most 1 000, and those that were not used longest go first", async () => {
      const service = new ServiceKeys(own.privateKey);
      const bodies = await Promise.all(Array.from({ length: SERVICE_KEYS + 2 }, () => sealedAnew()));
      const [oldest, used, ...rest] = bodies;
      for (const body of [oldest!, used!, ...rest.slice(0, -2)]) await service.decrypt(body);
      await service.decrypt(used!);
      assert.equal(rsaDecryptions, SERVICE_KEYS);
      for (const body of rest.slice(-2)) await service.decrypt(body);
      assert.equal(rsaDecryptions, SERVICE_KEYS + 2);
      // Two were too many: the first message's, and the first one of the rest.
      await service.decrypt(used!);
      await service.decrypt(rest.at(-1)!);
      await service.decrypt(rest[1]!);
      assert.equal(rsaDecryptions, SERVICE_KEYS + 2);
      await service.decrypt(oldest!);
      await service.decrypt(rest[0]!);
      assert.equal(rsaDecryptions, SERVICE_KEYS + 4);
    });

    it("are forgotten a minute after their last use", async () => {
      const service = new ServiceKeys(own.privateKey);
      const body = await sealedAnew();
      await service.decrypt(body);
      for (let minute = 0; minute < 3; minute++) {
        now += LIFETIME - 1;
        await service.decrypt(body);
      }
      assert.equal(rsaDecryptions, 1);
      now += LIFETIME;
      assert.equal(text((await service.decrypt(body)).body), "{}");
      assert.equal(rsaDecryptions, 2);
      await service.decrypt(body);
      assert.equal(rsaDecryptions, 2);
    });

    it("are not kept when a message cannot be decrypted", async () => {
      const service = new ServiceKeys(own.privateKey);
      const body = await sealedAnew();
      const broken = bytes(`${firstPart(body)}.${text(await sealedAnew()).split(".")[1]}`);
      for (let tries = 0; tries < 3; tries++) {
        await assert.rejects(service.decrypt(broken), NuropbMessageError);
      }
      assert.equal(rsaDecryptions, 3);
      await service.decrypt(body);
      assert.equal(rsaDecryptions, 4);
    });

    it("are not lost, nor kept longer, for messages that claim to have them", async () => {
      const service = new ServiceKeys(own.privateKey);
      const body = await sealedAnew();
      await service.decrypt(body);
      const forged = bytes(`${firstPart(body)}.${text(await sealedAnew()).split(".")[1]}`);
      now += LIFETIME - 1;
      await assert.rejects(service.decrypt(forged), NuropbMessageError);
      await service.decrypt(body);
      assert.equal(rsaDecryptions, 1);
      now += LIFETIME - 1;
      await assert.rejects(service.decrypt(forged), NuropbMessageError);
      now += 1;
      await service.decrypt(body);
      assert.equal(rsaDecryptions, 2);
    });

    it("do not make a failure tell which part was wrong", async () => {
      const service = new ServiceKeys(own.privateKey);
      const known = await sealedAnew();
      await service.decrypt(known);
      const [wrapped, token] = text(known).split(".");
      const other = text(await sealedAnew()).split(".");
      const bodies = [
        `${wrapped}.${other[1]}`,
        `${other[0]}.${token}`,
        `${wrapped}.`,
        `${wrapped}`,
        `.${token}`,
        `${wrapped}.${token}.${token}`,
        `${wrapped}.${token!.slice(4)}`,
        `${wrapped!.slice(4)}.${token}`,
        `${wrapped} .${token}`,
        "",
        ".",
        '{"tag":"request"}',
      ];
      for (const body of bodies) {
        await assert.rejects(service.decrypt(bytes(body)), (error) => {
          assert.ok(error instanceof NuropbMessageError, body);
          assert.deepEqual([error.code, error.description, error.cause], [
            "INVALID_MESSAGE",
            "The encrypted payload cannot be decrypted",
            undefined,
          ]);
          return true;
        });
      }
    });

    it("serve messages that come at once, before the first one is open", async () => {
      const service = new ServiceKeys(own.privateKey);
      const key = await createPayloadKey(publicKey);
      const sealed = await Promise.all(
        Array.from({ length: 20 }, (_, index) => key.encrypt(bytes(`${index}`))),
      );
      const opened = await Promise.all(sealed.map((body) => service.decrypt(body)));
      assert.deepEqual(opened.map(({ body }) => text(body)), sealed.map((_, index) => `${index}`));
      for (const { key: answering } of opened) {
        assert.equal(text(await key.decrypt(await answering.encrypt(bytes("a")))), "a");
      }
    });

    it("encrypt answers that are like those to a message with a key of its own", async () => {
      const service = new ServiceKeys(own.privateKey);
      const { body, key } = await encryptRequest(bytes("{}"), publicKey);
      await service.decrypt(body);
      const again = await service.decrypt(body);
      const fresh = await decryptRequest(body, own.privateKey);
      for (const opened of [again, fresh]) {
        const answer = await opened.key.encrypt(bytes("answer"));
        assert.equal(firstPart(answer), firstPart(body));
        assert.equal(text(await key.decrypt(answer)), "answer");
      }
    });
  });
});
