/**
 * A service as a typed object.
 *
 * @module
 */
import type { CallOptions, ServiceProxy } from "../calls.ts";

/** Sends one request. */
export type Send = (method: string, params: unknown, options: CallOptions | undefined) => Promise<unknown>;

/** Makes the object: each name read from it is a method that sends a request. */
export function createProxy<Instance>(send: Send): ServiceProxy<Instance> {
  const methods = new Map<string, (params?: unknown, options?: CallOptions) => Promise<unknown>>();
  return new Proxy({}, {
    get(target, name) {
      // With a `then` it would be a promise in the eyes of `await`; and to look at it must not send anything.
      if (typeof name === "symbol" || name === "then" || name === "toJSON") return undefined;
      if (name in Object.prototype) return Reflect.get(target, name);
      let method = methods.get(name);
      if (method === undefined) {
        method = (params, options) => send(name, params, options);
        methods.set(name, method);
      }
      return method;
    },
  }) as ServiceProxy<Instance>;
}
