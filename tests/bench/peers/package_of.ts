/**
 * The peers' packages, which are not among the product's own.
 *
 * @module
 */

/** Imports a package that `package.json` beside this file names, as the part of it that is used. */
export async function packageOf<Used>(name: string): Promise<Used> {
  return await import(name);
}
