/**
 * What the tests of a faulty link open: proxies, and meshes and services that reach the broker through them. All is
 * closed after each test.
 *
 * @module
 */
import assert from "node:assert/strict";
import { afterEach } from "@std/testing/bdd";
import { connect, serve } from "@nuropb/mesh";
import type { ConnectOptions, Mesh, ServeOptions, Service } from "@nuropb/mesh";
import { eventually, signal, within } from "../conformance/stage.ts";
import { uniqueName } from "../support/env.ts";
import { type FaultProxy, startFaultProxy } from "./fault_proxy.ts";

/** Opens what a test needs. Without a proxy the link is sound. */
export interface LinkStage {
  proxy(): Promise<FaultProxy>;
  mesh(proxy?: FaultProxy, options?: ConnectOptions): Promise<Mesh>;
  /** Under a name of its own unless the options have one. */
  service<Instance extends object>(
    proxy: FaultProxy | undefined,
    instance: Instance,
    options?: ServeOptions<Instance>,
  ): Promise<Service>;
}

/** A fault that ends the links of a proxy, at once or with the next bytes. */
export interface Strike {
  readonly name: string;
  readonly hit: (proxy: FaultProxy) => void;
}

/** All the ways in which a link ends. */
export const strikes: readonly Strike[] = [
  { name: "ended", hit: (proxy) => proxy.drop() },
  { name: "reset", hit: (proxy) => proxy.reset() },
  { name: "cut within a frame to the broker", hit: (proxy) => void proxy.cutAfter(5, "toServer") },
  { name: "cut within a frame from the broker", hit: (proxy) => void proxy.cutAfter(5, "toClient") },
];

/** How long a service waits for methods that a failed test left running, in ms. */
const DRAIN_TIMEOUT = 2_000;

/** To be called within a group of tests. */
export function linkStage(url: string): LinkStage {
  const { hostname: host, port } = new URL(url);
  const callers: Mesh[] = [];
  const services: Service[] = [];
  const proxies: FaultProxy[] = [];
  afterEach(async () => {
    await Promise.all(callers.splice(0).map((mesh) => mesh.close()));
    await Promise.all(services.splice(0).map((service) => service.close()));
    await Promise.all(proxies.splice(0).map((proxy) => proxy[Symbol.asyncDispose]()));
  });
  return {
    async proxy() {
      const proxy = await startFaultProxy({ host, port: Number(port) });
      proxies.push(proxy);
      return proxy;
    },
    async mesh(proxy, options) {
      const mesh = await connect(proxy?.url(url) ?? url, options);
      callers.push(mesh);
      return mesh;
    },
    async service(proxy, instance, options) {
      const defaults = { url: proxy?.url(url) ?? url, name: uniqueName("service") };
      const service = await serve(instance, { ...defaults, drainTimeout: DRAIN_TIMEOUT, ...options });
      services.push(service);
      return service;
    },
  };
}

/** Resolves when a mesh has been through these states, in this order. */
export function states(mesh: Mesh, wanted: readonly string[], milliseconds = 10_000): Promise<void> {
  const left = [...wanted];
  const passed = signal();
  mesh.addEventListener("status", ({ detail }) => {
    if (detail.state === left[0]) left.shift();
    if (left.length === 0) passed.send();
  });
  return within(passed.promise, milliseconds);
}

/** What was sent and what was handled, by id. */
export class Ledger {
  readonly #sent = new Set<string>();
  readonly #handled = new Map<string, number>();

  /** A new id, which is about to be sent. */
  send(prefix: string): string {
    const id = `${prefix}-${this.#sent.size}`;
    this.#sent.add(id);
    return id;
  }

  handle(id: string): void {
    this.#handled.set(id, (this.#handled.get(id) ?? 0) + 1);
  }

  /** How many ids were handled. */
  get handled(): number {
    return this.#handled.size;
  }

  /** How often an id was handled. */
  times(id: string): number {
    return this.#handled.get(id) ?? 0;
  }

  /** Waits until everything is handled, and checks that nothing else was. */
  async settle(): Promise<void> {
    const missing = () => [...this.#sent].filter((id) => !this.#handled.has(id));
    await eventually(missing, (ids) => ids.length === 0, 20_000);
    assert.deepEqual(
      [...this.#handled.keys()].filter((id) => !this.#sent.has(id)),
      [],
      "handled, never sent",
    );
  }
}
