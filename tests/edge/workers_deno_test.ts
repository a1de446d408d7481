/**
 * Cloudflare's runtime itself, without compatibility flags, against RabbitMQ.
 *
 * @module
 */
import assert from "node:assert/strict";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { serve, type Service } from "@nuropb/mesh";
import { Management, vhostOf } from "../conformance/management.ts";
import { eventually, pass, stage, within } from "../conformance/stage.ts";
import { startFaultProxy } from "../faults/fault_proxy.ts";
import { Authority } from "../security/certificates.ts";
import { tlsRelay } from "../security/tls_relay.ts";
import { managementUrl, rabbitmqUrl, tool, uniqueName } from "../support/env.ts";
import { bundle } from "./bundle.ts";
import { startFarewellRelay } from "./farewell_relay.ts";
import { startWebsockify } from "./websockify.ts";
import { startWorkerd, type Workerd } from "./workerd.ts";

const url = rabbitmqUrl() ?? "";
const api = managementUrl() ?? "";

interface StartOptions {
  /** The name of the service to call. */
  readonly service?: string;
  /** Whom it trusts, PEM. */
  readonly authority?: string;
}

(url === "" || api === "" || tool("websockify") === undefined ? describe.skip : describe)("a worker", () => {
  const management = new Management(api, vhostOf(url));
  const open = stage(url);
  let code: string;
  let service: Service;

  beforeAll(async () => {
    code = await bundle("tests/edge/worker.ts");
    service = await serve({ hello: ({ name }: { name: string }) => `hello ${name}` }, {
      name: uniqueName("greeter"),
      url,
    });
  });

  afterAll(() => service.close());

  const start = (
    to: string,
    { service: name = service.name, authority }: StartOptions = {},
  ): Promise<Workerd> =>
    startWorkerd({
      code,
      env: { URL: to, SERVICE: name },
      durableObjects: ["ServiceHost"],
      ...(authority === undefined ? {} : { authority }),
    });

  /** How many connections of workers the broker has. */
  const connections = async () => {
    const open = await management.call<{ user_provided_name?: string }[]>(
      "GET",
      `vhosts/${management.vhost}/connections`,
    );
    return open?.filter(({ user_provided_name: name }) => name === "worker").length;
  };

  it("answers a request with what a service answers", async () => {
    await using workerd = await start(url);
    const response = await workerd.fetch("/?name=Ann");
    assert.deepEqual([response.status, await response.json()], [200, "hello Ann"], workerd.output());
  });

  it("needs two round trips for that, TCP's own and one of AMQP's, however far the broker is", async () => {
    const { hostname, port } = new URL(url);
    await using proxy = await startFaultProxy({ host: hostname, port: Number(port) });
    proxy.delay(25);
    let flights = 0;
    const slow = await open.service({
      hello() {
        // The answer has still to leave, so the flight that the request was in is the last one.
        flights = proxy.flights;
        return "here";
      },
    });
    await using workerd = await start(proxy.url(url), { service: slow.name });
    const before = proxy.flights;
    assert.equal(await (await workerd.fetch("/?name=Ann")).json(), "here");
    assert.equal(flights - before, 1);
  });

  it("leaves no connection behind when it is called 1 000 times, each having said goodbye", async () => {
    await using relay = await startFarewellRelay(url);
    await using workerd = await start(relay.url);
    const names = Array.from({ length: 1_000 }, (_, index) => `${index}`);
    const next = names.values();
    const answers: unknown[] = [];
    const call = async () => {
      for (const name of next) answers.push(await (await workerd.fetch(`/?name=${name}`)).json());
    };
    await Promise.all(Array.from({ length: 10 }, call));
    assert.deepEqual(new Set(answers), new Set(names.map((name) => `hello ${name}`)));
    await eventually(connections, (count) => count === 0, 20_000);
    // The runtime closes what a request leaves open, too, but only its sockets.
    await eventually(relay.counts, ({ open }) => open === 0);
    assert.deepEqual(relay.counts(), { opened: 1_000, open: 0, goodbyes: 1_000 });
  });

  it("leaves none behind either when whoever asked goes away before the answer", async () => {
    const stuck = await open.service({ hello: () => new Promise(() => {}) }, { drainTimeout: 1 });
    await using workerd = await start(url, { service: stuck.name });
    const controller = new AbortController();
    const asked = workerd.fetch("/?name=Ann", { signal: controller.signal }).catch(() => "gone");
    await eventually(connections, (count) => count === 1);
    controller.abort();
    assert.equal(await asked, "gone");
    await eventually(connections, (count) => count === 0, 20_000);
  });

  it("speaks TLS with a broker whose certificate it trusts, and with no other", async () => {
    const authority = new Authority("the tests");
    await using relay = await tlsRelay(
      url,
      authority.issue({ commonName: "localhost", hosts: ["localhost"] }),
    );
    const secure = new URL(url.replace(/^amqp:/, "amqps:"));
    secure.hostname = "localhost";
    secure.port = `${relay.port}`;
    await using trusting = await start(secure.href, { authority: authority.cert });
    assert.equal(await (await trusting.fetch("/?name=Ann")).json(), "hello Ann");
    assert.equal(relay.connections(), 1);

    await using distrustful = await start(secure.href, { authority: new Authority("somebody else").cert });
    const refused = await distrustful.fetch("/?name=Ann");
    assert.equal(refused.status, 502);
    assert.equal((await refused.json()).code, "CONNECT_FAILED");
  });

  it("goes over a WebSocket relay too", async () => {
    await using relay = await startWebsockify(url);
    await using workerd = await start(relay.url);
    assert.equal(await (await workerd.fetch("/?name=Ann")).json(), "hello Ann", workerd.output());
  });

  it("goes over wss: to a relay whose certificate it trusts, and to no other", async () => {
    const authority = new Authority("the tests");
    const certificate = authority.issue({ commonName: "localhost", hosts: ["localhost"] });
    await using relay = await startWebsockify(url, { certificate, host: "localhost" });
    assert.match(relay.url, /^wss:/);
    await using trusting = await start(relay.url, { authority: authority.cert });
    assert.equal(await (await trusting.fetch("/?name=Ann")).json(), "hello Ann", trusting.output());

    await using distrustful = await start(relay.url, { authority: new Authority("somebody else").cert });
    const refused = await (await distrustful.fetch("/?name=Ann")).json();
    assert.equal(refused.code, "CONNECT_FAILED", refused.message);
  });

  it("refuses certificates of yours rather than leave them out", async () => {
    await using workerd = await start(url.replace(/^amqp:/, "amqps:"));
    const refused = await (await workerd.fetch("/?name=Ann&ca")).json();
    assert.equal(refused.code, "CONNECT_FAILED");
    assert.match(refused.message, /Workers take no certificates of yours/);
  });

  it("says so when nobody listens there, and when the password is wrong", async () => {
    for (
      const [to, expected] of [["amqp://guest:guest@127.0.0.1:1/", "CONNECT_FAILED"], [
        url.replace(":guest@", ":s3cr3t@"),
        "ACCESS_REFUSED",
      ]] as const
    ) {
      await using workerd = await start(to);
      const { code, message } = await (await workerd.fetch("/?name=Ann")).json();
      assert.equal(code, expected, message);
      assert.ok(!`${message}${workerd.output()}`.includes("s3cr3t"));
    }
  });

  it("hosts a service for as long as a Durable Object lives, beyond the request that began it", async () => {
    await using workerd = await start(url);
    const name = uniqueName("hosted");
    assert.equal(await (await workerd.fetch(`/host?name=${name}`)).json(), name);
    const mesh = await open.mesh();
    assert.equal(await mesh.request(name, "count"), 1);
    // The runtime puts an object away that is idle for 10 s, but not so soon if it has a connection.
    await pass(14_000);
    assert.deepEqual(await Promise.all([2, 3, 4].map(() => mesh.request(name, "count"))), [2, 3, 4]);
  });

  it("leaves the service to its other instances when the object goes, held messages and all", async () => {
    await using workerd = await start(url);
    const name = uniqueName("hosted");
    await workerd.fetch(`/host?name=${name}`);
    const mesh = await open.mesh();
    const held = mesh.request(name, "hold", {}, { encrypted: false });
    // It has the held one too, which came before.
    assert.equal(await mesh.request(name, "count"), 1);
    await open.service({ count: () => "other", hold: () => "other" }, { name });
    await workerd.fetch(`/host/abort?name=${name}`);
    // The broker hands it on once the object's consumer is gone.
    assert.equal(await within(held), "other");
    const answers = await Promise.all(Array.from({ length: 4 }, () => mesh.request(name, "count")));
    assert.deepEqual(new Set(answers), new Set(["other"]));
  });
});
