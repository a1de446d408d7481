/** Something that tests need, or what to do to get it on this machine. */
export type Found<T> = { readonly found: T } | { readonly missing: string };

/** For what cannot be missing. */
export function asFound<T>(found: T): Found<T> {
  return { found };
}
