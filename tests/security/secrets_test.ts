import assert from "node:assert/strict";
import { constants, privateDecrypt, randomBytes } from "node:crypto";
import { describe, it } from "@std/testing/bdd";
import { SignJWT } from "jose";
import { makeKeys } from "../conformance/support_keys.ts";
import { Management, urlWith, vhostOf } from "../conformance/management.ts";
import { managementUrl, rabbitmqUrl, uniqueName } from "../support/env.ts";
import { Authority } from "./certificates.ts";
import { runScript } from "./child.ts";
import type { Noise } from "./noisy_script.ts";
import { secretsIn } from "./secret_forms.ts";
import { tlsRelay } from "./tls_relay.ts";

const url = rabbitmqUrl();
const api = managementUrl();

/** The lines of a PEM that are its own, without the first, which all keys of a kind share. */
function linesOf(pem: string): string[] {
  return pem.split("\n").slice(2).filter((line) => /^[\w+/]{40,}$/.test(line));
}

async function tokensOf(secret: string): Promise<Noise["tokens"]> {
  const sign = (end: string) =>
    new SignJWT({ scope: "all" }).setProtectedHeader({ alg: "HS256" }).setIssuer("issuer").setSubject("ann")
      .setIssuedAt().setExpirationTime(end).sign(new TextEncoder().encode(secret));
  const valid = await sign("1 hour");
  const [head, claims] = valid.split(".");
  const expired = await sign("1 hour ago");
  return { valid, expired, tampered: `${head}.${claims}.${expired.split(".")[2]}` };
}

if (url !== undefined && api !== undefined) {
  const management = new Management(api, vhostOf(url));

  describe("what a noisy run prints", () => {
    it("has no password, token or key in it", async () => {
      // Odd characters, since a url and JSON have them in other forms.
      const password = `p/ss wörd:${randomBytes(12).toString("hex")}`;
      const user = uniqueName("user");
      const secret = randomBytes(32).toString("hex");
      const tokens = await tokensOf(secret);
      const { privatePem } = makeKeys();
      const authority = new Authority("authority");
      const certificate = authority.issue({ commonName: "broker", hosts: ["localhost"] });
      const client = authority.issue({ commonName: "client" });
      const { key: otherKey } = authority.issue({ commonName: "other" });
      const name = uniqueName("noisy");
      const tap = uniqueName("tap");

      await management.call("PUT", `users/${user}`, { password, tags: "" });
      const everything = { configure: ".*", write: ".*", read: ".*" };
      await management.call("PUT", management.path("permissions", user), everything);
      // Sees the requests, whose keys are in them, as the broker does.
      await management.call("PUT", management.path("queues", tap), { durable: true });
      await management.call("PUT", management.path("exchanges", "nuropb-rpc-exchange"), {
        type: "direct",
        durable: true,
      });
      const binding = `bindings/${encodeURIComponent(management.vhost)}/e/nuropb-rpc-exchange/q/${tap}`;
      await management.call("POST", binding, { routing_key: name });

      await using relay = await tlsRelay(url, certificate);
      const account = { user, password: encodeURIComponent(password) };
      const good = urlWith(url, account);
      const { host, pathname } = new URL(good);
      const login = `${user}:${account.password}`;
      const noise: Noise = {
        url: good,
        managementUrl: api,
        secureUrl: `amqps://${login}@localhost:${relay.port}${pathname}`,
        badUrls: [
          urlWith(url, { user: "guest", password: account.password }),
          urlWith(url, { ...account, vhost: uniqueName("missing") }),
          urlWith(good, { ...account, user: "nobody" }),
          `amqp://${login}@127.0.0.1:1${pathname}`,
          `amqp://${login}@${host}${pathname}?insecure`,
          `amqp://${login}@${host}/%`,
          `amqp://${login}@${host}/${"v".repeat(300)}`,
          `amqp://${login}@`,
          `amqp://${login}@ho st/`,
          `ampq://${login}@${host}${pathname}`,
          `amqp:${login}@${host}`,
          `//${login}@${host}${pathname}`,
          `${login}@${host}${pathname}`,
          `amqps://${login}@${host}${pathname}`,
        ],
        password,
        tls: { ca: authority.cert, ...client },
        otherKey,
        secret,
        tokens,
        privateKey: privatePem,
        name,
      };
      const { code, output } = await runScript("noisy_script.ts", noise);
      const requests = await management.get(tap, 1_000);
      await management.call("DELETE", management.path("queues", tap));
      await management.deleteUser(user);

      assert.equal(code, 0, output.slice(-4_000));
      assert.ok(/^the end$/m.test(output), output.slice(-4_000));
      assert.ok(!output.includes("UNEXPECTED"), /UNEXPECTED.*/.exec(output)?.[0]);
      // Everything that was to be printed was: the search would find nothing in silence.
      const noises = [
        /ACCESS_REFUSED/,
        /VHOST_NOT_FOUND/,
        /INVALID_URL/,
        /tls\.ca/,
        /for this reason/,
        /MeshConnection/,
      ];
      for (const noise of noises) assert.ok(noise.test(output), `${noise} was not printed`);

      const payloadKeys = requests.filter(({ properties }) => properties.headers?.["encrypted"] === "yes")
        .map(
          ({ payload }) => {
            const [wrapped = ""] = payload.split(".");
            const padding = {
              key: privatePem,
              padding: constants.RSA_PKCS1_OAEP_PADDING,
              oaepHash: "sha256",
            };
            return privateDecrypt(padding, Buffer.from(wrapped, "base64")).toString();
          },
        );
      assert.ok(payloadKeys.length > 0);
      assert.ok(payloadKeys.every((key) => /^[\w-]{43}=$/.test(key)));
      const found = secretsIn(output, {
        password: password.slice(-24),
        "password as a whole": password,
        "secret for tokens": secret,
        ...entries("token", Object.values(tokens).flatMap((token) => [token, token.split(".")[2]!])),
        ...entries("private key", linesOf(privatePem)),
        ...entries("key of TLS", [client.key, otherKey].flatMap(linesOf)),
        ...entries("payload key", payloadKeys),
        ...entries("payload key's bytes", payloadKeys.map((key) => Buffer.from(key, "base64url"))),
      });
      assert.deepEqual(found, []);
    });
  });
}

function entries<Value>(what: string, values: readonly Value[]): Record<string, Value> {
  return Object.fromEntries(values.map((value, index) => [`${what} ${index + 1}`, value]));
}
