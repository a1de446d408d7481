/**
 * The signals by which an operating system asks a process to end.
 *
 * @module
 */

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

interface SignalSource {
  process?: {
    once?(signal: string, listener: () => void): void;
    off?(signal: string, listener: () => void): void;
  };
}

/**
 * Calls the listener at the first signal, in place of ending the process. A second one ends it as ever.
 *
 * @returns Takes the listener back. Where a runtime has no signals, nothing ever happens.
 */
export function onTermination(listener: () => void): () => void {
  // Deno and Bun have Node's way too.
  const { process } = globalThis as SignalSource;
  const off = () => {
    for (const signal of SIGNALS) process?.off?.(signal, first);
  };
  const first = () => {
    off();
    listener();
  };
  for (const signal of SIGNALS) process?.once?.(signal, first);
  return off;
}
