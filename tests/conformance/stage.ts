/**
 * What the conformance tests open, closed again after each of them, and how they wait for things.
 *
 * @module
 */
import assert from "node:assert/strict";
import { afterEach } from "@std/testing/bdd";
import { connect, serve } from "@nuropb/mesh";
import type { ConnectOptions, EventMessage, Mesh, ServeOptions, Service, Subscription } from "@nuropb/mesh";
import { uniqueName } from "../support/env.ts";

/** Opens meshes and services on one broker. What it opened is closed after the test, callers first. */
export interface Stage {
  mesh(options?: ConnectOptions): Promise<Mesh>;
  /** Under a name of its own unless the options have one. */
  service<Instance extends object>(instance: Instance, options?: ServeOptions<Instance>): Promise<Service>;
}

/** How long a service waits for methods that a failed test left running, in ms. */
const DRAIN_TIMEOUT = 2_000;

/** To be called within a group of tests. */
export function stage(url: string): Stage {
  let meshes: Mesh[] = [];
  let services: Service[] = [];
  afterEach(async () => {
    const [openMeshes, openServices] = [meshes, services];
    [meshes, services] = [[], []];
    await Promise.all(openMeshes.map((mesh) => mesh.close()));
    await Promise.all(openServices.map((service) => service.close()));
  });
  return {
    async mesh(options) {
      const mesh = await connect(url, options);
      meshes.push(mesh);
      return mesh;
    },
    async service(instance, options) {
      const defaults = { url, name: uniqueName("service"), drainTimeout: DRAIN_TIMEOUT };
      const service = await serve(instance, { ...defaults, ...options });
      services.push(service);
      return service;
    },
  };
}

/** Gives back what it is given, and has it closed after the test, the last first. To be called within a group of tests. */
export function closing(): <Opened extends { close(): Promise<void> }>(
  opening: Promise<Opened>,
) => Promise<Opened> {
  const opened: { close(): Promise<void> }[] = [];
  afterEach(async () => {
    for (const each of opened.splice(0).reverse()) await each.close();
  });
  return async (opening) => {
    const result = await opening;
    opened.push(result);
    return result;
  };
}

/** What an operation throws or rejects with, whatever it is. Fails when it succeeds. */
export async function reasonOf(operation: () => unknown): Promise<unknown> {
  let result: unknown;
  try {
    result = await operation();
  } catch (reason) {
    return reason;
  }
  throw new assert.AssertionError({ message: "It did not fail", actual: result });
}

/** The error of exactly this class that an operation throws or rejects with. */
export async function failure<Failure extends Error>(
  kind: new (...args: never[]) => Failure,
  operation: () => unknown,
): Promise<Failure> {
  const reason = await reasonOf(operation);
  if (reason instanceof kind && reason.constructor === kind) return reason;
  throw new assert.AssertionError({ message: `Expected ${kind.name}`, actual: reason, expected: kind });
}

/** A promise that is settled from outside. */
export interface Signal<Value = void> {
  readonly promise: Promise<Value>;
  send(value: Value): void;
}

/** For a test to tell a method something, or the other way round. */
export function signal<Value = void>(): Signal<Value> {
  let send: (value: Value) => void = () => {};
  const promise = new Promise<Value>((resolve) => send = resolve);
  return { promise, send };
}

/** Fails what would wait for ever. */
export async function within<Value>(promise: PromiseLike<Value>, milliseconds = 5_000): Promise<Value> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const fail = () => reject(new Error(`Nothing happened within ${milliseconds} ms`));
    timer = setTimeout(fail, milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Lets time pass, where that is what is tested. */
export function pass(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Asks again and again until the answer is as it must be: for what cannot be waited for. */
export async function eventually<Value>(
  ask: () => Value | Promise<Value>,
  holds: (value: Value) => boolean,
  milliseconds = 10_000,
): Promise<Value> {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    const value = await ask();
    if (holds(value)) return value;
    if (Date.now() > deadline) {
      throw new assert.AssertionError({ message: `Still not so after ${milliseconds} ms`, actual: value });
    }
    await pass(20);
  }
}

/** The next events of a subscription. */
export async function take<Payload, Context>(
  subscription: Subscription<Payload, Context>,
  count: number,
): Promise<EventMessage<Payload, Context>[]> {
  const taken: EventMessage<Payload, Context>[] = [];
  while (taken.length < count) {
    const next = await within(subscription.next());
    if (next.done) throw new Error(`The subscription ended after ${taken.length} events of ${count}`);
    taken.push(next.value);
  }
  return taken;
}
