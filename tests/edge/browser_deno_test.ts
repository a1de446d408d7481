/**
 * A page in Chromium on the mesh, over a WebSocket relay.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { selfSigned } from "../security/certificates.ts";
import { publishRaw } from "../conformance/support_raw.ts";
import { eventually, signal, stage, take, within } from "../conformance/stage.ts";
import { type FaultProxy, startFaultProxy } from "../faults/fault_proxy.ts";
import { managementUrl, rabbitmqUrl, tool, uniqueName } from "../support/env.ts";
import { splitBundle } from "./bundle.ts";
import { INSECURE_HOST, type PageHost, startChromium } from "./chromium.ts";
import type { steps } from "./page.ts";
import { startWebsockify, type WebSocketRelay } from "./websockify.ts";

/** How late the timers of a page on a busy machine may be. */
const TIMERS_MS = 300;

type Steps = typeof steps;

const url = rabbitmqUrl() ?? "";
const isPossible = url !== "" && managementUrl() !== undefined && tool("chromium") !== undefined &&
  tool("websockify") !== undefined;

(isPossible ? describe : describe.skip)("a page", () => {
  const open = stage(url);
  const subject = { commonName: "127.0.0.1", hosts: ["127.0.0.1"] };
  const certificate = selfSigned(subject);
  let relay: WebSocketRelay;
  let chromium: PageHost;
  let modules: ReadonlyMap<string, string>;

  beforeAll(async () => {
    modules = await splitBundle("tests/edge/page.ts");
    [relay, chromium] = await Promise.all([startWebsockify(url), startChromium(certificate)]);
  });

  afterAll(async () => {
    await chromium[Symbol.asyncDispose]();
    await relay.stop();
  });

  /** Does a step within the page. */
  const run = <Name extends keyof Steps>(
    page: Page,
    step: Name,
    ...args: Parameters<Steps[Name]>
  ): Promise<Awaited<ReturnType<Steps[Name]>>> => page.evaluate(`${step}(...${JSON.stringify(args)})`);

  /** A page that is on the mesh. */
  const onMesh = async (options = {}, to = relay.url, host?: string) => {
    const page = await chromium.open(modules, host);
    assert.equal(await run(page, "open", to, options), null);
    return page;
  };

  it("asks a service, sends it commands, and has its errors", async () => {
    const told = signal<unknown>();
    const service = await open.service({
      hello: ({ name }: { name: string }) => `hello ${name}`,
      tell: (params: unknown) => told.send(params),
      fail: () => {
        throw new RangeError("too far");
      },
    });
    await using page = await onMesh();
    assert.equal(await run(page, "request", service.name, "hello", { name: "Ann" }), "hello Ann");
    await run(page, "command", service.name, "tell", { a: "ü" });
    assert.deepEqual(await within(told.promise), { a: "ü" });
    await assert.rejects(run(page, "request", service.name, "fail", {}), /too far/);
    await run(page, "close");
  });

  it("publishes events, and gets those of others", async () => {
    const topic = uniqueName("events");
    const mesh = await open.mesh();
    const subscription = mesh.subscribe(topic);
    await subscription.ready;
    await using page = await onMesh();
    await run(page, "publish", topic, { from: "the page" });
    assert.deepEqual((await take(subscription, 1)).map(({ event }) => event), [{ from: "the page" }]);
    await run(page, "subscribe", topic);
    await mesh.publish(topic, { from: "elsewhere" });
    await eventually(() => run(page, "events"), (events) => events.length > 0);
    assert.deepEqual(await run(page, "events"), [{ from: "elsewhere" }]);
  });

  it("hosts a service while it is open, and leaves it to other instances when it is closed", async () => {
    const name = uniqueName("service");
    const mesh = await open.mesh();
    {
      await using page = await chromium.open(modules);
      await run(page, "host", relay.url, name);
      assert.equal(await mesh.request(name, "hello"), "hello from a page");
      await open.service({ hello: () => "hello" }, { name });
    }
    const answers = await Promise.all(Array.from({ length: 4 }, () => mesh.request(name, "hello")));
    assert.deepEqual(new Set(answers), new Set(["hello"]));
  });

  it("encrypts what a service wants encrypted", async () => {
    const service = await open.service({ open: ({ pin }: { pin: string }) => pin === "1234" }, {
      methods: { open: { encrypted: true } },
    });
    await using page = await onMesh();
    assert.equal(await run(page, "request", service.name, "open", { pin: "1234" }), true);
    await assert.rejects(run(page, "request", service.name, "open", { pin: "1234" }, false), /encrypted/);
  });

  it("loads encryption with the first request that wants it, and nothing before that", async () => {
    const service = await open.service({ open: () => "open", hello: () => "hello" }, {
      methods: { open: { encrypted: true } },
    });
    const loaded = (page: Page) =>
      page.evaluate<number>(
        `performance.getEntriesByType("resource").filter(({ name }) => name.endsWith(".js")).length`,
      );
    await using page = await onMesh();
    const before = await loaded(page);
    const topic = uniqueName("events");
    await run(page, "subscribe", topic);
    await run(page, "publish", topic, 1);
    await run(page, "command", service.name, "hello", {});
    await run(page, "request", service.name, "hello", {});
    assert.equal(await loaded(page), before);
    await run(page, "request", service.name, "open", {});
    const after = await eventually(() => loaded(page), (files) => files > before);
    await run(page, "request", service.name, "open", {});
    assert.equal(await loaded(page), after);
  });

  it("settles 2 000 requests at once", async () => {
    const service = await open.service({ echo: ({ value }: { value: number }) => value });
    await using page = await onMesh();
    assert.deepEqual(await run(page, "burst", service.name, 2_000), { right: 2_000, settled: 2_000 });
  });

  it("comes back when the relay does, with its subscriptions", async () => {
    const topic = uniqueName("events");
    const service = await open.service({ hello: () => "hello" });
    await using page = await onMesh();
    await run(page, "subscribe", topic);
    await relay.stop();
    await eventually(() => run(page, "states"), (states) => states.at(-1) !== "open");
    await relay.start();
    await eventually(() => run(page, "states"), (states) => states.at(-1) === "open", 20_000);
    assert.equal(await run(page, "request", service.name, "hello", {}), "hello");
    const mesh = await open.mesh();
    await eventually(async () => {
      await mesh.publish(topic, 1);
      return await run(page, "events");
    }, (events) => events.length > 0);
  });

  /** A page whose heartbeat is a second gives its connection up in time, and for this reason. */
  const noticesSilence = async (page: Page, proxy: FaultProxy) => {
    const started = Date.now();
    proxy.halfOpen(true);
    const lost = await eventually(() => run(page, "lost"), (lost) => lost !== null);
    assert.equal(lost?.reason, "The broker was silent for close to two heartbeats of 1 s");
    assert.ok(lost.at - started <= 2_000 + TIMERS_MS, `${lost.at - started} ms`);
  };

  it("notices within two heartbeats that the relay has fallen silent", async () => {
    const { hostname, port } = new URL(relay.url);
    await using proxy = await startFaultProxy({ host: hostname, port: Number(port) });
    await using page = await onMesh({ heartbeat: 1_000 }, proxy.url(relay.url));
    await noticesSilence(page, proxy);
  });

  it("notices it as well when it is the broker that has fallen silent behind the relay", async () => {
    const { hostname, port } = new URL(url);
    await using proxy = await startFaultProxy({ host: hostname, port: Number(port) });
    const own = await startWebsockify(proxy.url(url));
    try {
      await using page = await onMesh({ heartbeat: 1_000 }, own.url);
      await noticesSilence(page, proxy);
    } finally {
      await own.stop();
    }
  });

  it("goes over wss: to a relay whose certificate the browser trusts, and to no other", async () => {
    const service = await open.service({ hello: () => "hello" });
    await using secure = await startWebsockify(url, { certificate });
    assert.match(secure.url, /^wss:/);
    await using page = await onMesh({}, secure.url);
    assert.equal(await run(page, "request", service.name, "hello", {}), "hello");

    await using impostor = await startWebsockify(url, { certificate: selfSigned(subject) });
    await using other = await chromium.open(modules);
    assert.equal((await run(other, "open", impostor.url))?.code, "CONNECT_FAILED");
  });

  it("stays connected over many heartbeats without a message", async () => {
    await using page = await onMesh({ heartbeat: 1_000 });
    await new Promise((resolve) => setTimeout(resolve, 8_000));
    assert.deepEqual(await run(page, "states"), ["open"]);
  });

  describe("that came by plain http", () => {
    const insecure = async (options = {}) => {
      const page = await onMesh(options, relay.url, INSECURE_HOST);
      assert.equal(await page.evaluate("isSecureContext"), false);
      return page;
    };

    it("asks a service, and reads what Python writes and integers as they are", async () => {
      const topic = uniqueName("events");
      const service = await open.service({ hello: () => "hello" });
      await using page = await insecure({ integers: "bigint" });
      assert.equal(await run(page, "request", service.name, "hello", {}), "hello");
      await run(page, "subscribe", topic);
      const event = "[NaN, -Infinity, 9007199254740993]";
      const body =
        `{"tag": "event", "topic": "${topic}", "event": ${event}, "context": {}, "correlation_id": "c"}`;
      await publishRaw(url, "event", topic, body);
      await eventually(() => run(page, "events"), (events) => events.length > 0);
      assert.deepEqual(await run(page, "events"), [[NaN, -Infinity, 9007199254740993n]]);
    });

    it("sends dead letters back", async () => {
      const told: unknown[] = [];
      const service = await open.service({
        tell(params: unknown) {
          told.push(params);
          if (told.length === 1) throw new Error("not now");
        },
      });
      await using page = await insecure();
      await run(page, "command", service.name, "tell", { a: 1 });
      await run(page, "replay");
      await eventually(() => told, ({ length }) => length === 2);
      assert.deepEqual(told, [{ a: 1 }, { a: 1 }]);
    });

    it("is told that encryption wants https", async () => {
      const service = await open.service({ open: () => true }, { methods: { open: { encrypted: true } } });
      await using page = await insecure();
      await assert.rejects(
        run(page, "request", service.name, "open", {}),
        /crypto\.subtle: serve the page over https/,
      );
    });
  });

  it("cannot use TCP, and is told what to use", async () => {
    await using page = await chromium.open(modules);
    const error = await run(page, "open", "amqp://guest:s3cr3t@127.0.0.1/");
    assert.equal(error?.code, "CONNECT_FAILED");
    assert.match(error?.message ?? "", /no TCP sockets: give the wss: url of a WebSocket relay/);
    assert.ok(!error?.message.includes("s3cr3t"));
  });

  it("takes no certificates of yours", async () => {
    await using page = await chromium.open(modules);
    const error = await run(page, "open", relay.url.replace("ws:", "wss:"), { tls: { ca: "x" } });
    assert.equal(error?.code, "INVALID_ARGUMENT");
    assert.match(error?.message ?? "", /^tls must be left out with a WebSocket/);
  });
});
