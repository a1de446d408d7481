/**
 * Tells the classes that come with the runtime from those of the user.
 *
 * @module
 */

interface ModuleSource {
  process?: { getBuiltinModule?: (name: "node:events") => { EventEmitter: unknown } | undefined };
}

/** Whether a class belongs to the language or the runtime: `Object`, `EventTarget`, `Map`, Node's `EventEmitter`… */
export function isBuiltInClass(constructor: { readonly name: string }): boolean {
  // By its name alone, for a getter on the global object may have effects; and on Deno these classes are not native.
  const global: unknown = Object.getOwnPropertyDescriptor(globalThis, constructor.name)?.value;
  if (global === constructor || isNative(constructor)) return true;
  const { process } = globalThis as ModuleSource;
  return process?.getBuiltinModule?.("node:events")?.EventEmitter === constructor;
}

function isNative(constructor: object): boolean {
  return /\{\s*\[native code\]\s*\}\s*$/.test(Function.prototype.toString.call(constructor));
}
