import assert from "node:assert/strict";
import { connect, serve, type Service, setupMesh } from "@nuropb/mesh";
import { afterEach, beforeEach, it } from "@std/testing/bdd";
import { managementUrl, uniqueName } from "../support/env.ts";
import { brokerAt, type Vhost } from "../support/management.ts";
import { PythonPeer } from "./python_peer.ts";
import { brokerUrl, describeWithManagement, eventually, newTrace, rejection } from "./support.ts";

/** A message in a queue. */
interface Queued {
  readonly payload: string;
  readonly routing_key: string;
  readonly properties: {
    readonly headers: {
      readonly trace_id: string | null;
      readonly "x-death"?: readonly {
        readonly reason: string;
        readonly queue: string;
        readonly count: number;
      }[];
    };
  };
}

/** A queue as RabbitMQ lists it. */
interface QueueFacts {
  readonly name: string;
  readonly durable: boolean;
  readonly auto_delete: boolean;
  readonly arguments: Readonly<Record<string, unknown>>;
}

const OURS = "nuropb-dead-letters";
const PYTHONS = "nuropb-dl-queue";

async function api<Result>(method: string, path: string, body?: unknown): Promise<Result> {
  const response = await fetch(`${managementUrl()}/api/${path}`, {
    method,
    headers: { authorization: `Basic ${btoa("guest:guest")}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return await response.json() as Result;
}

describeWithManagement("what Python and ours declare on an empty virtual host", () => {
  const name = uniqueName("orders");
  let vhost: Vhost;
  let vhostName: string;

  beforeEach(async () => {
    const broker = brokerAt(brokerUrl(), managementUrl()!);
    vhost = await broker.createVhost(uniqueName("nuropb-interop"));
    vhostName = new URL(vhost.url).pathname.slice(1);
  });

  afterEach(async () => await vhost[Symbol.asyncDispose]());

  const serveOurs = (): Promise<Service> =>
    serve({
      language: () => "typescript",
      fail: () => {
        throw new Error("on purpose");
      },
    }, { url: vhost.url, name, events: { "orders.#": () => {} } });

  const startPython = () => PythonPeer.start({ url: vhost.url, service: name, events: ["orders.#"] });
  const setup = () => setupMesh(vhost.url, { managementUrl: managementUrl()! });

  /** The queues that outlast their connection. */
  const queues = async () =>
    (await api<QueueFacts[]>("GET", `queues/${vhostName}`))
      .filter(({ name }) => !name.endsWith("-rq"))
      .map(({ name, durable, auto_delete, arguments: given }) => ({ name, durable, auto_delete, given }))
      .toSorted((one, other) => one.name < other.name ? -1 : 1);

  const expectedQueues = [
    { name: OURS, durable: true, auto_delete: false, given: {} },
    { name: PYTHONS, durable: false, auto_delete: false, given: {} },
    { name: `nuropb-${name}-dl`, durable: false, auto_delete: false, given: {} },
    {
      name: `nuropb-${name}-sq`,
      durable: true,
      auto_delete: false,
      given: { "x-dead-letter-exchange": "nuropb-dl-exchange" },
    },
  ].toSorted((one, other) => one.name < other.name ? -1 : 1);

  /** A trace's messages in a queue, which stay there. */
  const lettersIn = async (queue: string, traceId: string): Promise<Queued[]> => {
    const body = { count: 1_000, ackmode: "ack_requeue_true", encoding: "auto" };
    const all = await api<Queued[]>("POST", `queues/${vhostName}/${queue}/get`, body);
    return all.filter(({ properties }) => properties.headers.trace_id === traceId);
  };

  /** The one message of a trace that comes into a queue. */
  const letterIn = (queue: string, traceId: string): Promise<Queued> =>
    eventually(`a message in ${queue}`, async () => {
      const letters = await lettersIn(queue, traceId);
      assert.ok(letters.length <= 1, `${letters.length} messages in ${queue}`);
      return letters[0];
    });

  it("is the same for both: Python's configure_mesh and service start after ours", async () => {
    await setup();
    await using service = await serveOurs();
    await using python = await startPython();
    await python.configureMesh();
    await setup();

    assert.deepEqual(await queues(), expectedQueues);
    const answers = new Set<unknown>();
    for (let round = 0; round < 200 && answers.size < 2; round++) {
      answers.add(await service.mesh.request(name, "language"));
      answers.add(await python.request(name, "language"));
    }
    assert.equal(answers.size, 2);
  });

  it("is the same for both: ours starts after Python's configure_mesh and service", async () => {
    await using python = await startPython();
    await python.configureMesh();
    await setup();
    await using service = await serveOurs();
    await using mesh = await connect(vhost.url);
    await using events = mesh.subscribe("orders.#");
    await events.ready;

    assert.deepEqual(
      (await queues()).filter(({ name }) => !name.startsWith("nuropb-subscriber-")),
      expectedQueues,
    );
    await python.publish("orders.created", { id: 1 });
    assert.deepEqual((await events.next()).value?.event, { id: 1 });
    assert.equal(service.name, name);
  });

  it("lets a caller of ours use Python's mesh without declaring anything", async () => {
    await using python = await startPython();
    await using mesh = await connect(vhost.url, { declare: false });
    const before = await queues();
    assert.equal(await mesh.request(name, "add", { a: 1 }), 3);
    await mesh.command(name, "add", { a: 1 });
    await mesh.publish("orders.created", {});
    assert.deepEqual(await queues(), before);
    assert.equal(python.service, name);
  });

  it("keeps what Python rejects in our dead letters and in Python's own, and once in each", async () => {
    await setup();
    await using python = await startPython();
    await python.configureMesh();
    await using mesh = await connect(vhost.url);
    const traceId = newTrace();
    await rejection(mesh.request(name, "verr", {}, { traceId, context: { u: 1 } }));
    for (const queue of [OURS, PYTHONS, `nuropb-${name}-dl`]) {
      const { payload, routing_key, properties } = await letterIn(queue, traceId);
      const { method, context } = JSON.parse(payload) as Record<string, unknown>;
      assert.deepEqual([routing_key, method, context], [name, "verr", { u: 1 }]);
      const [death] = properties.headers["x-death"] ?? [];
      assert.deepEqual([death?.reason, death?.queue, death?.count], ["rejected", `nuropb-${name}-sq`, 1]);
    }
  });

  it("keeps a command that fails at ours in both, and a request that fails at ours in neither", async () => {
    await using python = await PythonPeer.start({ url: vhost.url, service: uniqueName("caller") });
    await python.configureMesh();
    await using _service = await serveOurs();
    const [requestTrace, commandTrace] = [newTrace(), newTrace()];
    assert.equal(
      (await python.requestRaw(name, "fail", {}, { traceId: requestTrace })).error?.error,
      "Error",
    );
    await python.command(name, "fail", {}, { traceId: commandTrace });
    for (const queue of [OURS, PYTHONS]) {
      const { payload } = await letterIn(queue, commandTrace);
      assert.equal((JSON.parse(payload) as { tag: unknown }).tag, "command");
      // It was settled before the command was.
      assert.deepEqual(await lettersIn(queue, requestTrace), []);
    }
  });

  it("keeps what expires while the service is away, from a Python caller and from ours", async () => {
    await using python = await PythonPeer.start({ url: vhost.url, service: uniqueName("caller") });
    await using mesh = await connect(vhost.url);
    const service = await serveOurs();
    assert.equal(await mesh.request(name, "language"), "typescript");
    await service.close();
    const traces = [newTrace(), newTrace()] as const;
    await mesh.command(name, "language", {}, { ttl: 20, traceId: traces[0] });
    await python.command(name, "language", {}, { ttl: 20, traceId: traces[1] });
    for (const traceId of traces) {
      const { properties } = await letterIn(OURS, traceId);
      assert.deepEqual(properties.headers["x-death"]?.map(({ reason }) => reason), ["expired"]);
    }
  });
});
