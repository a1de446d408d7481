/**
 * A mesh over a WebSocket relay, on every runtime that has WebSockets.
 *
 * @module
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { connect, NuropbTransportError, NuropbValidationError, setupMesh } from "@nuropb/mesh";
import type { StatusEvent } from "@nuropb/mesh";
import { afterAll, afterEach, beforeAll, describe, it } from "@std/testing/bdd";
import { closedPort, listen } from "../conformance/listener.ts";
import { eventually, failure, signal, stage, take, within } from "../conformance/stage.ts";
import { startFaultProxy } from "../faults/fault_proxy.ts";
import { Authority } from "../security/certificates.ts";
import { startDaemon } from "../support/daemon.ts";
import { rabbitmqUrl, script, tool, uniqueName } from "../support/env.ts";
import { startWebsockify } from "./websockify.ts";
import type { WebSocketRelay } from "./websockify.ts";

/** How late the timers of a busy machine may be. */
const TIMERS_MS = 300;
const SECRET = "s3cr3t";
const hasWebSocket = "WebSocket" in globalThis;
const broker = rabbitmqUrl();
const canRelay = broker !== undefined && tool("websockify") !== undefined;

if (hasWebSocket) {
  (canRelay ? describe : describe.skip)("a mesh over a WebSocket relay", () => {
    let relay: WebSocketRelay;
    const open = stage(broker ?? "");

    beforeAll(async () => {
      relay = await startWebsockify(broker ?? "");
    });

    afterAll(() => relay.stop());

    const meshes: { close(): Promise<void> }[] = [];
    afterEach(async () => {
      await Promise.all(meshes.splice(0).map((mesh) => mesh.close()));
    });

    /** A mesh over the relay, closed after the test. */
    const overRelay = async (options = {}, to = relay.url) => {
      const mesh = await connect(to, options);
      meshes.push(mesh);
      return mesh;
    };

    it("asks a service that is on TCP, and sends it commands", async () => {
      const told = signal<unknown>();
      const service = await open.service({
        double: ({ value }: { value: number }) => 2 * value,
        tell: (params: unknown) => told.send(params),
      });
      const mesh = await overRelay();
      assert.equal(await mesh.request(service.name, "double", { value: 21 }), 42);
      await mesh.command(service.name, "tell", { a: 1 });
      assert.deepEqual(await within(told.promise), { a: 1 });
    });

    it("hosts a service", async () => {
      const service = await open.service({ hello: () => "hello" }, { mesh: await overRelay() });
      assert.equal(await (await open.mesh()).request(service.name, "hello"), "hello");
    });

    it("gets events", async () => {
      const mesh = await overRelay();
      const topic = uniqueName("events");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      await (await open.mesh()).publish(topic, { id: 1 });
      const [message] = await take(subscription, 1);
      assert.deepEqual(message?.event, { id: 1 });
    });

    it("carries 4 MB there and back", async () => {
      const service = await open.service({ echo: ({ text }: { text: string }) => text });
      const mesh = await overRelay();
      const text = "0123456789abcdé€".repeat(2 ** 18);
      assert.equal(await mesh.request(service.name, "echo", { text }) === text, true);
    });

    it("settles 2 000 requests at once", async () => {
      const service = await open.service({ echo: ({ value }: { value: number }) => value });
      const mesh = await overRelay();
      const values = Array.from({ length: 2_000 }, (_, index) => index);
      assert.deepEqual(
        await Promise.all(values.map((value) => mesh.request(service.name, "echo", { value }))),
        values,
      );
    });

    it("comes back when the relay does, with its subscriptions", async () => {
      const mesh = await overRelay();
      const topic = uniqueName("events");
      const subscription = mesh.subscribe(topic);
      await subscription.ready;
      await relay.stop();
      await eventually(() => mesh.status.state, (state) => state !== "open");
      await relay.start();
      await within(mesh.ready(), 20_000);
      const got = take(subscription, 1);
      // The subscription is set up anew some time after the connection.
      const teller = await open.mesh();
      await eventually(async () => {
        await teller.publish(topic, "again");
        return await Promise.race([
          got.then(() => true),
          new Promise<false>((no) => setTimeout(no, 50, false)),
        ]);
      }, (arrived) => arrived);
    });

    it("notices within two heartbeats that the relay has fallen silent", async () => {
      const { hostname, port } = new URL(relay.url);
      await using proxy = await startFaultProxy({ host: hostname, port: Number(port) });
      const mesh = await overRelay({ heartbeat: 1_000 }, proxy.url(relay.url));
      const lost = new Promise<StatusEvent>((resolve) => mesh.addEventListener("status", resolve));
      const started = performance.now();
      proxy.halfOpen(true);
      const { detail } = await within(lost);
      const milliseconds = performance.now() - started;
      assert.ok(detail.state === "waiting", detail.state);
      assert.match(detail.error.message, /^The broker was silent for close to two heartbeats of 1 s$/);
      assert.ok(milliseconds <= 2_000 + TIMERS_MS, `${milliseconds} ms`);
    });

    it("stays connected over many heartbeats without a message", async () => {
      const mesh = await overRelay({ heartbeat: 1_000 });
      const states: string[] = [];
      mesh.addEventListener("status", ({ detail }) => void states.push(detail.state));
      await new Promise((resolve) => setTimeout(resolve, 5_000));
      assert.deepEqual(states, []);
      assert.equal(mesh.status.state, "open");
    });

    it("opens the virtual host that the url names, and says when there is none", async () => {
      const elsewhere = relay.url.replace(/\?.*/, `?vhost=${uniqueName("nowhere")}`);
      const error = await failure(NuropbTransportError, () => connect(elsewhere));
      assert.equal(error.code, "VHOST_NOT_FOUND");
    });

    it("is refused a wrong password, which the error does not show", async () => {
      const wrong = relay.url.replace("guest:guest", `guest:${SECRET}`);
      const error = await failure(NuropbTransportError, () => connect(wrong));
      assert.equal(error.code, "ACCESS_REFUSED");
      assert.ok(!inspect(error, { depth: 20 }).includes(SECRET));
    });

    it("says so when the relay cannot reach the broker", async () => {
      await using relay = await startWebsockify(`amqp://guest:guest@127.0.0.1:${await closedPort()}/`);
      const error = await failure(NuropbTransportError, () => connect(relay.url));
      assert.equal(error.code, "CONNECT_FAILED");
    });

    it("is encrypted by wss:, with a relay whose certificate the runtime trusts and with no other", async () => {
      const service = await open.service({ hello: () => "hello" });
      const folder = await mkdtemp(join(tmpdir(), "nuropb-wss-"));
      const ca = join(folder, "ca.pem");
      const authority = new Authority("the tests");
      const certificate = authority.issue({ commonName: "localhost", hosts: ["localhost"] });
      await writeFile(ca, authority.cert);
      const secure = await startWebsockify(broker ?? "", { certificate, host: "localhost" });
      const { command, args } = script("edge/secure_script.ts");
      const outcome = async (env: Record<string, string>) => {
        await using child = startDaemon(command, [...args, secure.url, service.name], env);
        await within(child.ended, 20_000);
        return child.output();
      };
      try {
        assert.match(secure.url, /^wss:/);
        assert.match(await outcome({ DENO_CERT: ca, NODE_EXTRA_CA_CERTS: ca }), /^answer: hello$/m);
        assert.match(await outcome({}), /^error: CONNECT_FAILED$/m);
      } finally {
        await secure.stop();
        await rm(folder, { recursive: true });
      }
    });

    it("hands the relay path and query, and keeps account and virtual host to itself", async () => {
      let head = "";
      const listener = await listen((socket) => {
        socket.on("data", (bytes) => {
          head += new TextDecoder().decode(bytes);
          socket.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        });
      });
      const to = `ws://ann:${SECRET}@127.0.0.1:${listener.port}/mesh?token=a%20b&vhost=orders&more`;
      const error = await failure(NuropbTransportError, () => connect(to));
      await listener.close();
      assert.equal(error.code, "CONNECT_FAILED");
      assert.match(head, /^GET \/mesh\?token=a%20b&more HTTP\/1\.1\r\n/);
      assert.ok(!head.includes("orders") && !/authorization|sec-websocket-protocol/i.test(head), head);
      const shown = inspect(error, { depth: 20 });
      assert.ok(!shown.includes(SECRET) && !shown.includes("a%20b"), shown);
    });
  });

  describe("a WebSocket without a relay", () => {
    it("rejects where nobody listens, naming the host", async () => {
      const port = await closedPort();
      const error = await failure(NuropbTransportError, () => connect(`ws://127.0.0.1:${port}/`));
      assert.equal(error.code, "CONNECT_FAILED");
      assert.match(error.message, new RegExp(`^No broker can be reached at 127\\.0\\.0\\.1:${port}: `));
    });

    it("is given up after connectTimeout where nobody answers", async () => {
      const listener = await listen();
      const to = `ws://127.0.0.1:${listener.port}/`;
      const error = await failure(NuropbTransportError, () => within(connect(to, { connectTimeout: 200 })));
      assert.equal(error.code, "CONNECT_FAILED");
      await eventually(() => listener.connections.open, (open) => open === 0);
      await listener.close();
    });
  });
} else {
  describe("a runtime without WebSockets", () => {
    it("says so, and which Node has them", async () => {
      const error = await failure(NuropbTransportError, () => connect("ws://127.0.0.1/"));
      assert.equal(error.code, "CONNECT_FAILED");
      assert.match(error.message, /no WebSocket: Node has one from version 22 on/);
    });
  });
}

describe("a WebSocket's url", () => {
  it("takes no certificates, since a WebSocket does not", async () => {
    const error = await failure(
      NuropbValidationError,
      () => connect("wss://127.0.0.1/", { tls: { ca: "x" } }),
    );
    assert.equal(error.code, "INVALID_ARGUMENT");
    assert.match(error.message, /^tls must be left out with a WebSocket/);
  });

  it("sets up no mesh, as the management API is not behind the relay", async () => {
    const error = await failure(NuropbTransportError, () => setupMesh("wss://ann:s3cr3t@127.0.0.1/?vhost=x"));
    assert.equal(error.code, "INVALID_URL");
    assert.match(error.message, /use its amqp: url/);
  });
});
