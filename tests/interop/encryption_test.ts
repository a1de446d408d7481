import assert from "node:assert/strict";
import {
  connect,
  type Context,
  type Mesh,
  NuropbCallAgain,
  NuropbMessageError,
  serve,
  type Service,
} from "@nuropb/mesh";
import { afterAll, beforeAll, it } from "@std/testing/bdd";
import { uniqueName } from "../support/env.ts";
import { PythonError, PythonPeer } from "./python_peer.ts";
import {
  brokerUrl,
  describeWithPython,
  Inbox,
  LogRecorder,
  newTrace,
  receivedBy,
  rejection,
} from "./support.ts";

class Vault {
  readonly stored = new Inbox<unknown>();

  secret({ kw }: { kw: string }): string {
    return `secret ${kw}`;
  }

  open({ value }: { value?: unknown }): unknown {
    return value ?? null;
  }

  fail(): never {
    throw new RangeError("too far ✓");
  }

  againOnce(_params: unknown, { redelivered }: Context): string {
    if (!redelivered) throw new NuropbCallAgain("once more");
    return "second time";
  }

  store(params: unknown): void {
    this.stored.put(params);
  }
}

describeWithPython("encryption between Python and ours", () => {
  const name = uniqueName("vault-ts");
  const vault = new Vault();
  const log = new LogRecorder();
  let python: PythonPeer;
  let mesh: Mesh;
  let service: Service;

  beforeAll(async () => {
    [python, mesh, service] = await Promise.all([
      PythonPeer.start({ url: brokerUrl(), service: uniqueName("vault") }),
      connect(brokerUrl(), { logger: log }),
      serve(vault, {
        url: brokerUrl(),
        name,
        methods: { secret: { encrypted: true }, store: { encrypted: true } },
      }),
    ]);
    // A Python caller gets the public key by this and no other way.
    await python.describe(name);
  });

  afterAll(async () => {
    await mesh?.close();
    await python?.close();
    await service?.close();
  });

  /** Whether the messages of a trace came to the Python service encrypted. */
  const cameEncrypted = async (traceId: string) =>
    (await receivedBy(python, mesh, traceId)).map(({ encrypted }) => encrypted);

  it("is used by a caller of ours where Python's description asks for it, and nowhere else", async () => {
    const traceId = newTrace();
    assert.equal(await mesh.request(python.service, "secret", { kw: "x" }, { traceId }), "secret x");
    assert.equal(await mesh.request(python.service, "add", { a: 1 }, { traceId }), 3);
    assert.deepEqual(await cameEncrypted(traceId), [true, false]);
  });

  it("is used by a caller of ours for any method that it wants, with whatever Python answers", async () => {
    const traceId = newTrace();
    const options = { traceId, encrypted: true };
    assert.equal(await mesh.request(python.service, "add", { a: 1 }, options), 3);
    const types = await mesh.request<Record<string, unknown>>(python.service, "types", {}, options);
    assert.deepEqual([types["nan"], types["uni"]], [NaN, "héllo ✓ \0"]);
    const value = "x".repeat(1_000_000);
    assert.equal(await mesh.request(python.service, "echo", { value }, options), value);
    assert.deepEqual(await cameEncrypted(traceId), [true, true, true]);
  });

  it("keeps the name of a Python exception", async () => {
    const names: unknown[] = [];
    for (const method of ["verr", "aboom", "boom"]) {
      const error = await rejection(mesh.request(python.service, method, {}, { encrypted: true }));
      names.push((error as { remote?: { name: string } }).remote?.name);
    }
    assert.deepEqual(names, ["NuropbValidationError", "ValueError", "ValueError"]);
  });

  it("does not let Python's second answer, which has another key, disturb anyone", async () => {
    const { result, correlationId } = await mesh.requestRaw(python.service, "success", {}, {
      encrypted: true,
    });
    assert.deepEqual(result, { ok: 1 });
    await log.until(1, ({ level, fields }) => level === "debug" && fields["correlationId"] === correlationId);
    assert.deepEqual(log.lines.filter(({ level }) => level === "warn" || level === "error"), []);
  });

  it("ends in an error where a Python method is to be called again, as Python loses the key", async () => {
    const key = newTrace();
    const error = await rejection(mesh.request(python.service, "again_once", { key }, { encrypted: true }));
    assert.ok(error instanceof NuropbMessageError, String(error));
  });

  it("is used by a command of ours where Python's description asks for it", async () => {
    const traceId = newTrace();
    await mesh.command(python.service, "secret", { kw: "c" }, { traceId });
    const [command] = await receivedBy(python, mesh, traceId);
    assert.deepEqual([command?.type, command?.encrypted], ["command", true]);
    assert.deepEqual(command?.payload["params"], { kw: "c" });
  });

  it("is not asked for by Python itself: a plain request reaches its method", async () => {
    assert.equal(await mesh.request(python.service, "secret", { kw: "p" }, { encrypted: false }), "secret p");
  });

  it("is asked for by our description, as a Python caller reads it", async () => {
    const { info, encrypted, has_public_key } = await python.describe(name);
    assert.match(String(info["public_key"]), /^-----BEGIN PUBLIC KEY-----\n/);
    assert.deepEqual([info["encrypted_methods"], has_public_key], [true, true]);
    assert.deepEqual([encrypted["secret"], encrypted["open"]], [true, false]);
  });

  it("lets a Python caller send what it likes, and get it back", async () => {
    const options = { encrypted: true, traceId: newTrace() };
    assert.equal(await python.request(name, "secret", { kw: "y" }, options), "secret y");
    for (const value of ["", "héllo ✓", { deep: [1, null] }, "x".repeat(1_000_000)]) {
      assert.deepEqual(await python.request(name, "open", { value }, { encrypted: true }), value);
    }
    assert.deepEqual((await python.answers(options.traceId)).map(({ encrypted }) => encrypted), [true]);
  });

  it("keeps the name of an error of ours, in one answer", async () => {
    const traceId = newTrace();
    const { error } = await python.requestRaw(name, "fail", {}, { encrypted: true, traceId });
    assert.deepEqual(error, { error: "RangeError", description: "too far ✓" });
    await python.request(name, "open");
    assert.deepEqual((await python.answers(traceId)).map(({ encrypted }) => encrypted), [true]);
  });

  it("survives that a method of ours asks to be called again", async () => {
    assert.equal(await python.request(name, "againOnce", {}, { encrypted: true }), "second time");
  });

  it("is insisted on by a method of ours: a plain request of Python's is refused", async () => {
    const { error } = await python.requestRaw(name, "secret", { kw: "z" });
    assert.equal(error?.error, "NuropbMessageError");
    assert.match(error.description, /secret takes encrypted messages alone/);
    assert.equal(await python.request(name, "open"), null);
  });

  it("lets a Python caller send commands", async () => {
    await python.command(name, "store", { item: 1 }, { encrypted: true });
    assert.deepEqual(await vault.stored.next(), { item: 1 });
  });

  it("is not there for events: what Python flags, and sends plain, is read by a subscription", async () => {
    const topic = uniqueName("topic");
    await using events = mesh.subscribe(topic);
    await events.ready;
    await python.publish(topic, { id: 1 }, { encrypted: true });
    assert.deepEqual((await events.next()).value?.event, { id: 1 });
  });

  it("needs the service's public key in Python, which has it after describing the service", async () => {
    await using other = await serve({ open: () => 1 }, { url: brokerUrl(), name: uniqueName("plain-ts") });
    const error = await rejection(python.request(other.name, "open", {}, { encrypted: true }));
    assert.ok(error instanceof PythonError && error.type === "ValueError");
    assert.match(error.message, /public key not found/);
  });
});
