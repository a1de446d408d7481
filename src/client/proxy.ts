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
    get(_target, name) {
      // A `then` would make the object a promise in the eyes of `await`.
      if (typeof name === "symbol" || name === "then") return undefined;
      let method = methods.get(name);
      if (method === undefined) {
        method = (params, options) => send(name, params, options);
        methods.set(name, method);
      }
      return method;
    },
  }) as ServiceProxy<Instance>;
}
