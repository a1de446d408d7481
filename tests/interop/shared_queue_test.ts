import assert from "node:assert/strict";
import {
  connect,
  type Mesh,
  NuropbCallAgain,
  NuropbCallAgainReject,
  serve,
  type Service,
} from "@nuropb/mesh";
import { afterAll, beforeAll, it } from "@std/testing/bdd";
import { uniqueName } from "../support/env.ts";
import { PythonPeer } from "./python_peer.ts";
import { brokerUrl, describeWithPython, eventually, newTrace, rejection } from "./support.ts";

/** A message that the instance of ours got. */
interface Arrival {
  readonly traceId: string | null;
  readonly correlationId: string;
}

const ROUNDS = 200;
const MESSAGES = 20;

describeWithPython("a service that a Python and a TypeScript instance host at once", () => {
  const name = uniqueName("shared");
  const topics = `${name}.*`;
  const arrivals: Arrival[] = [];
  let mesh: Mesh;
  let python: PythonPeer;
  let service: Service;

  const serveOurs = () =>
    serve({
      language: () => "typescript",
      nothing: (_params: unknown, { traceId, correlationId }: Arrival) => {
        arrivals.push({ traceId, correlationId });
      },
      again_loop: () => {
        throw new NuropbCallAgain("loop");
      },
    }, {
      url: brokerUrl(),
      name,
      events: { [topics]: (_event, { traceId, correlationId }) => arrivals.push({ traceId, correlationId }) },
    });
  const startPython = () => PythonPeer.start({ url: brokerUrl(), service: name, events: [topics] });

  beforeAll(async () => {
    [mesh, python, service] = await Promise.all([connect(brokerUrl()), startPython(), serveOurs()]);
  });

  afterAll(async () => {
    await mesh?.close();
    await service?.close();
    await python?.close();
  });

  /** Asks until both have answered, and tells by whom each answer was. */
  const askBoth = async (ask: () => Promise<unknown>): Promise<unknown[]> => {
    const answers: unknown[] = [];
    while (new Set(answers).size < 2 && answers.length < ROUNDS) answers.push(await ask());
    return [...new Set(answers)].toSorted();
  };

  /** The correlation ids of a trace's messages, by who got them, once there are enough. */
  const shares = (traceId: string) =>
    eventually(`${MESSAGES} messages`, async () => {
      const ours = arrivals.filter((arrival) => arrival.traceId === traceId).map((one) => one.correlationId);
      const theirs = (await python.arrivals(traceId)).map((one) => one.correlation_id);
      return ours.length + theirs.length >= MESSAGES ? { ours, theirs } : undefined;
    });

  const askedOf = async (count: number) =>
    new Set(
      await Promise.all(Array.from({ length: count }, () => mesh.request<string>(name, "language"))),
    );

  it("answers with both to a caller of ours", async () => {
    assert.deepEqual(await askBoth(() => mesh.request(name, "language")), ["python", "typescript"]);
  });

  it("answers with both to a Python caller", async () => {
    assert.deepEqual(await askBoth(() => python.request(name, "language")), ["python", "typescript"]);
  });

  it("answers each of many requests at once", async () => {
    assert.deepEqual([...await askedOf(100)].toSorted(), ["python", "typescript"]);
  });

  it("shares out commands, each of them done once", async () => {
    const traceId = newTrace();
    for (let sent = 0; sent < MESSAGES; sent++) await mesh.command(name, "nothing", {}, { traceId });
    const { ours, theirs } = await shares(traceId);
    assert.equal(new Set([...ours, ...theirs]).size, MESSAGES);
    assert.ok(ours.length > 0 && theirs.length > 0, `${ours.length} ours, ${theirs.length} theirs`);
  });

  it("shares out events, each of them handled once", async () => {
    const traceId = newTrace();
    for (let sent = 0; sent < MESSAGES; sent++) await mesh.publish(`${name}.created`, { sent }, { traceId });
    const { ours, theirs } = await shares(traceId);
    assert.equal(new Set([...ours, ...theirs]).size, MESSAGES);
    assert.ok(ours.length > 0 && theirs.length > 0, `${ours.length} ours, ${theirs.length} theirs`);
  });

  it("rejects what is to be called again for ever, whichever of them gets it first and second", async () => {
    for (let round = 0; round < 10; round++) {
      const error = await rejection(mesh.request(name, "again_loop", {}, { ttl: 5_000 }));
      assert.ok(error instanceof NuropbCallAgainReject, String(error));
    }
  });

  it("is described by either of them", async () => {
    const described = await askBoth(async () => {
      const { name: told, version, methods } = await mesh.describe(name, { refresh: true });
      assert.equal(told, name);
      assert.ok("language" in methods);
      return version;
    });
    assert.deepEqual(described, ["", "1.2.3"]);
  });

  it("goes on with Python alone, and then with both again", async () => {
    await service.close();
    assert.deepEqual([...await askedOf(20)], ["python"]);
    service = await serveOurs();
    assert.deepEqual(await askBoth(() => mesh.request(name, "language")), ["python", "typescript"]);
  });

  it("goes on with TypeScript alone, and then with both again", async () => {
    await python.close();
    assert.deepEqual([...await askedOf(20)], ["typescript"]);
    python = await startPython();
    assert.deepEqual(await askBoth(() => mesh.request(name, "language")), ["python", "typescript"]);
  });
});
