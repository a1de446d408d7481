import assert from "node:assert/strict";
import { inspect } from "node:util";
import { connect, NuropbTransportError, NuropbValidationError } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { MeshConnection } from "../../src/mesh_connection.ts";
import { checkConnectOptions } from "../../src/options.ts";
import { parseUrl } from "../../src/transport/open.ts";
import { FakeBroker, noticeRejections, showsNoPassword } from "./fake_broker.ts";

const local = {
  scheme: "amqp",
  host: "localhost",
  port: 5672,
  hasAccount: false,
  username: "guest",
  password: "guest",
  vhost: "/",
};

describe("a broker's url", () => {
  const parsed: [url: string, expected: object][] = [
    ["amqp://localhost", local],
    ["amqp://localhost/", local],
    ["amqp://localhost/%2F", local],
    ["amqp://localhost/%2f", local],
    ["AMQP://LocalHost/nuropb", { ...local, host: "LocalHost", vhost: "nuropb" }],
    ["amqp://localhost:5673/nuropb", { ...local, port: 5673, vhost: "nuropb" }],
    ["amqps://localhost/nuropb", { ...local, scheme: "amqps", port: 5671, vhost: "nuropb" }],
    ["amqps://localhost:5672", { ...local, scheme: "amqps", port: 5672 }],
    ["amqp://ann@localhost", { ...local, hasAccount: true, username: "ann" }],
    ["amqp://ann:secret@localhost", { ...local, hasAccount: true, username: "ann", password: "secret" }],
    ["amqp://a%40b:p%3Aw%2Fx%25%23%3F%20%C3%A9@localhost", {
      ...local,
      hasAccount: true,
      username: "a@b",
      password: "p:w/x%#? é",
    }],
    ["amqp://ann:a+b@localhost", { ...local, hasAccount: true, username: "ann", password: "a+b" }],
    ["amqp://localhost/a%2Fb%20c", { ...local, vhost: "a/b c" }],
    ["amqp://localhost/a/b", { ...local, vhost: "a/b" }],
    ["amqp://localhost/%F0%9F%90%B0", { ...local, vhost: "🐰" }],
    ["amqp://127.0.0.1/x", { ...local, host: "127.0.0.1", vhost: "x" }],
    ["amqp://[::1]/x", { ...local, host: "::1", vhost: "x" }],
    ["amqp://ann:secret@[fe80::1:2]:5673", {
      ...local,
      host: "fe80::1:2",
      port: 5673,
      hasAccount: true,
      username: "ann",
      password: "secret",
    }],
    ["ws://localhost", { ...local, scheme: "ws", port: 80, relay: "ws://localhost/" }],
    ["wss://localhost/", { ...local, scheme: "wss", port: 443, relay: "wss://localhost/" }],
    ["wss://localhost/mesh?vhost=a%2Fb", {
      ...local,
      scheme: "wss",
      port: 443,
      vhost: "a/b",
      relay: "wss://localhost/mesh",
    }],
    ["ws://ann:se%2Fcret@[::1]:8080/a/b?token=a%20b&vhost=nuropb&x", {
      scheme: "ws",
      host: "::1",
      port: 8080,
      hasAccount: true,
      username: "ann",
      password: "se/cret",
      vhost: "nuropb",
      relay: "ws://[::1]:8080/a/b?token=a%20b&x",
    }],
    ["wss://localhost/?my-vhost=x&vhost=", {
      ...local,
      scheme: "wss",
      port: 443,
      relay: "wss://localhost/?my-vhost=x",
    }],
    ["memory:", { scheme: "memory", name: "" }],
    ["memory:orders", { scheme: "memory", name: "orders" }],
  ];
  for (const [url, expected] of parsed) {
    it(`is taken apart: ${url}`, () => {
      assert.deepEqual(parseUrl(url), expected);
    });
  }

  const refused: [url: unknown, reason: RegExp][] = [
    ["", /is not a url/],
    ["localhost", /is not a url/],
    ["amqp://localhost:notaport", /is not a url/],
    ["amqp://localhost:65536", /is not a url/],
    ["amqp://[::1", /is not a url/],
    ["http://localhost", /must start with amqp:, amqps:, ws:, wss: or memory:/],
    ["ws:///mesh#fragment", /may not have a query/],
    ["wss://?vhost=x", /is not a url/],
    ["ws://ann:%E0%A4@localhost", /a % that starts no escape/],
    [`wss://localhost?vhost=${"x".repeat(256)}`, /a virtual host of more than 255 bytes/],
    ["amqp:///nuropb", /has no host/],
    ["amqp:nuropb", /has no host/],
    ["amqps://localhost?insecure", /may not have a query/],
    ["amqps://localhost/nuropb?insecure=true", /may not have a query/],
    ["amqp://localhost?heartbeat=0", /may not have a query/],
    ["amqp://localhost#nuropb", /may not have a query/],
    ["amqp://localhost/%", /a % that starts no escape/],
    ["amqp://localhost/%zz", /a % that starts no escape/],
    ["amqp://ann:%E0%A4@localhost", /a % that starts no escape/],
    [undefined, /is not a url/],
    [5672, /is not a url/],
    [null, /is not a url/],
  ];
  for (const [url, reason] of refused) {
    it(`is refused: ${JSON.stringify(url)}`, () => {
      assert.throws(() => parseUrl(url as string), (error: unknown) => {
        assert.ok(error instanceof NuropbTransportError);
        assert.equal(error.code, "INVALID_URL");
        assert.match(error.message, reason);
        return true;
      });
    });
  }

  const secret: unknown[] = [
    "amqp://ann:open-sesame@localhost?insecure",
    "amqp://ann:open-sesame@localhost:notaport",
    "amqp://ann:open-sesame%@localhost",
    "amqp://ann:half@open-sesame@localhost?insecure",
    "amqp://ann:half/open-sesame@localhost",
    "amqp://ann:half#open-sesame@localhost",
    "amqp://localhost?password=open-sesame",
    "wss://ann:open-sesame@localhost#fragment",
    "wss://localhost?token=open-sesame#fragment",
    "https://ann:open-sesame@localhost",
    "amqp:ann:open-sesame@localhost",
    "amqp:/ann:open-sesame@localhost",
    "ann:open-sesame@localhost",
    "//ann:open-sesame@localhost",
    new URL("amqp://ann:open-sesame@localhost"),
  ];
  for (const url of secret) {
    it(`is refused without its password: ${String(url).replace("open-sesame", "…")}`, async () => {
      const reasons = [
        await connect(url as string).catch((reason: unknown) => reason),
        await connect([url as string]).catch((reason: unknown) => reason),
      ];
      for (const reason of reasons) {
        assert.ok(
          reason instanceof NuropbTransportError || reason instanceof NuropbValidationError,
          inspect(reason),
        );
        showsNoPassword(reason);
      }
    });
  }
});

describe("connecting by url", () => {
  noticeRejections();

  it("sends the account and the virtual host with their escapes undone", async () => {
    await using broker = await FakeBroker.start();
    const { host } = new URL(broker.url);
    await using _mesh = await connect(`amqp://a%40b:p%3Aw%2F%20%C3%A9@${host}/a%2Fb`);
    assert.equal(broker.session.all("connection.start-ok")[0]?.fields.response, "\0a@b\0p:w/ é");
    assert.equal(broker.session.all("connection.open")[0]?.fields.vhost, "a/b");
  });

  it("reaches an IPv6 address, which loses its brackets", async () => {
    const started = await FakeBroker.start({}, "::1").catch(() => undefined);
    // Where the machine has no IPv6 there is nothing to reach.
    if (started === undefined) return;
    await using broker = started;
    assert.match(broker.url, /@\[::1\]:/);
    await using mesh = await connect(broker.url);
    assert.equal(mesh.status.state, "open");
  });

  it("rejects when nothing listens there, naming the host and not the password", async () => {
    const broker = await FakeBroker.start();
    await broker[Symbol.asyncDispose]();
    await assert.rejects(connect(broker.url), (error: unknown) => {
      assert.ok(error instanceof NuropbTransportError);
      assert.equal(error.code, "CONNECT_FAILED");
      assert.match(error.message, /^No broker can be reached at 127\.0\.0\.1:\d+: /);
      showsNoPassword(error);
      return true;
    });
  });
});

describe("a password that goes unencrypted", () => {
  /** What is logged of a mesh with these urls, before it connects. */
  function warningsOf(...urls: string[]): string[] {
    const lines: string[] = [];
    const ignore = () => {};
    const warn = (message: string, fields?: Record<string, unknown>) =>
      lines.push(inspect([message, fields]));
    new MeshConnection(
      urls,
      checkConnectOptions({ logger: { debug: ignore, info: ignore, warn, error: ignore } }),
    );
    return lines;
  }

  it("is warned about once, and not shown", () => {
    const url = "amqp://ann:sesame@broker.example/mesh";
    for (const urls of [[url], [url, "amqp://ann:sesame@192.0.2.1"], ["ws://ann:sesame@relay.example"]]) {
      const lines = warningsOf(...urls);
      assert.equal(lines.length, 1);
      assert.match(lines[0]!, /unencrypted/);
      assert.ok(!lines[0]!.includes("sesame"));
    }
  });

  it("is no matter within the machine, or under TLS", () => {
    for (const host of ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.8.9.1", "[::1]"]) {
      assert.deepEqual(warningsOf(`amqp://ann:sesame@${host}/mesh`), [], host);
    }
    assert.deepEqual(warningsOf("amqps://ann:sesame@broker.example", "wss://ann:sesame@relay.example"), []);
    assert.deepEqual(warningsOf("memory:"), []);
  });
});
