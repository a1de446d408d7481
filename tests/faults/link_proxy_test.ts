import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, describe, it } from "@std/testing/bdd";
import { eventually, pass, within } from "../conformance/stage.ts";
import { type FaultProxy, startFaultProxy } from "./fault_proxy.ts";

/** Sends back what it gets, and counts it. */
class Echo {
  received = 0;
  readonly #server: Server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes: Uint8Array) => {
      this.received += bytes.byteLength;
      socket.write(bytes);
    });
  });

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const address = this.#server.address();
    assert.ok(address !== null && typeof address === "object");
    return address.port;
  }

  close(): void {
    this.#server.close();
  }
}

/** A socket that keeps what it gets. */
interface Client {
  readonly socket: Socket;
  readonly got: () => Buffer;
  readonly closed: Promise<void>;
}

describe("the fault proxy", () => {
  const echo = new Echo();
  let port = 0;
  let proxy: FaultProxy;
  const sockets: Socket[] = [];

  beforeAll(async () => {
    port = await echo.listen();
  });
  afterAll(() => echo.close());
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await proxy[Symbol.asyncDispose]();
  });

  async function dial(): Promise<Client> {
    const socket = connect({ host: "127.0.0.1", port: proxy.port, noDelay: true });
    sockets.push(socket);
    let got = Buffer.alloc(0);
    socket.on("data", (bytes: Uint8Array) => got = Buffer.concat([got, bytes]));
    socket.on("error", () => {});
    const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
    await new Promise<void>((resolve, reject) => {
      socket.on("connect", resolve);
      socket.on("close", () => reject(new Error("refused")));
    });
    return { socket, got: () => got, closed };
  }

  async function start(): Promise<Client> {
    echo.received = 0;
    proxy = await startFaultProxy({ host: "127.0.0.1", port });
    return await dial();
  }

  const length = ({ got }: Client, bytes: number) =>
    eventually(() => got().byteLength, (all) => all === bytes);

  it("passes everything on, and counts bytes and turns", async () => {
    const client = await start();
    for (let turn = 1; turn <= 3; turn++) {
      client.socket.write("ping");
      await length(client, 4 * turn);
    }
    assert.equal(client.got().toString(), "pingpingping");
    assert.deepEqual(proxy.stats, { toServer: 12, toClient: 12 });
    assert.equal(proxy.flights, 3);
    assert.deepEqual([proxy.connections, proxy.accepted], [1, 1]);
    proxy.drop();
    await within(client.closed);
    await eventually(() => proxy.connections, (count) => count === 0);
  });

  it("lets exactly so many bytes through before it cuts", async () => {
    const client = await start();
    const cut = proxy.cutAfter(300, "toServer");
    client.socket.write(Buffer.alloc(200));
    await length(client, 200);
    client.socket.write(Buffer.alloc(5_000));
    await within(cut);
    await within(client.closed);
    await eventually(() => echo.received, (count) => count >= 300);
    assert.equal(echo.received, 300);
    assert.equal(proxy.connections, 0);
  });

  it("delays each way, and keeps the order", async () => {
    const client = await start();
    proxy.delay(100);
    const begun = performance.now();
    const digits = "0123456789";
    for (const digit of digits) {
      client.socket.write(digit);
      await pass(1);
    }
    await length(client, digits.length);
    assert.ok(performance.now() - begun >= 200);
    assert.equal(client.got().toString(), digits);
  });

  it("carries no more than it may", async () => {
    const client = await start();
    proxy.throttle(200_000);
    const begun = performance.now();
    client.socket.write(Buffer.alloc(100_000));
    await length(client, 100_000);
    assert.ok(performance.now() - begun >= 490);
  });

  it("swallows one way or both, and stays deaf for a link that has lost bytes", async () => {
    const client = await start();
    proxy.halfOpen(true, "toClient");
    client.socket.write("lost");
    await eventually(() => echo.received, (count) => count === 4);
    proxy.halfOpen(true);
    client.socket.write("lost too");
    await eventually(() => proxy.stats.toServer, (count) => count === 12);
    proxy.halfOpen(false);
    client.socket.write("deaf");
    await eventually(() => proxy.stats.toServer, (count) => count === 16);
    const next = await dial();
    next.socket.write("heard");
    await length(next, 5);
    assert.equal(echo.received, 9);
    assert.equal(client.got().byteLength, 0);
    assert.equal(client.socket.destroyed, false);
  });

  it("refuses, and takes connections again on the same port", async () => {
    const client = await start();
    await proxy.refuse(true);
    await assert.rejects(within(dial()), /refused/);
    client.socket.write("open links go on");
    await length(client, 16);
    await proxy.refuse(false);
    proxy.reset();
    await within(client.closed);
    const next = await dial();
    next.socket.write("again");
    await length(next, 5);
    assert.equal(proxy.accepted, 2);
  });
});
