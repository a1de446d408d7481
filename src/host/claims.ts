/**
 * Who calls, and whether they may: from the bearer token in a message's context to claims and scopes. Fails closed.
 *
 * @module
 */
import { asError, NuropbAuthenticationError, NuropbAuthorizationError, toRemote } from "../errors.ts";
import type { Context } from "./context.ts";

/**
 * Turns a bearer token into claims. Null, undefined, false or an empty object refuse the caller, as a throw does.
 *
 * @param token The token, without `Bearer `.
 * @param ctx The message's context; it has no claims yet.
 */
export type Authorize<Claims = unknown> = (token: string, ctx: Context) => Claims | Promise<Claims>;

/** What an {@linkcode Authorize} function gives: the type for a method's `ctx: Context<ClaimsOf<typeof authorize>>`. */
export type ClaimsOf<Function extends Authorize> = NonNullable<Awaited<ReturnType<Function>>>;

const REFUSED = "The bearer token was refused";

/**
 * The claims of a message's sender.
 *
 * @param tokenKey Where in the context the token is.
 * @throws {NuropbAuthenticationError} which says nothing about the token; one that `authorize` threw as it is.
 */
export async function authenticate(authorize: Authorize, tokenKey: string, ctx: Context): Promise<unknown> {
  const carried = Object.hasOwn(ctx.raw, tokenKey) ? ctx.raw[tokenKey] : undefined;
  const token = typeof carried === "string" ? carried.replace(/^Bearer(?:\s+|$)/i, "").trim() : "";
  if (token === "") {
    throw new NuropbAuthenticationError(`A bearer token is needed in the context under "${tokenKey}"`);
  }
  let claims: unknown;
  try {
    claims = await authorize(token, ctx);
  } catch (error) {
    throw refusalOf(asError(error), token);
  }
  if (!isSomething(claims)) throw new NuropbAuthenticationError(REFUSED);
  return claims;
}

/** An error of `authorize` as it goes to the caller and the log, neither of which is to see the token. */
function refusalOf(error: Error, token: string): NuropbAuthenticationError {
  const { name, description } = toRemote(error);
  const cause = error.cause === undefined ? "" : toRemote(error.cause).description;
  if (error instanceof NuropbAuthenticationError && !`${description} ${cause}`.includes(token)) return error;
  const shown = /^\w{1,40}$/.test(name) && !name.includes(token) ? name : "error";
  return new NuropbAuthenticationError(REFUSED, { cause: new Error(`authorize threw: ${shown}`) });
}

/**
 * Checks that claims grant every scope, in any of the places where issuers put them: `scope` (RFC 8693), `scp` and
 * `roles`, each a list or a text with blanks between.
 *
 * @throws {NuropbAuthorizationError} naming the scopes that are missing.
 */
export function checkScopes(method: string, scopes: readonly string[], claims: unknown): void {
  const { scope, scp, roles } = (typeof claims === "object" && claims !== null ? claims : {}) as Record<
    string,
    unknown
  >;
  const granted = new Set([scope, scp, roles].flatMap(listOf));
  const missing = scopes.filter((wanted) => !granted.has(wanted));
  if (missing.length > 0) {
    throw new NuropbAuthorizationError(`${method} needs the scope ${missing.join(" and ")}`);
  }
}

function listOf(value: unknown): string[] {
  if (typeof value === "string") return value.split(" ");
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

/** Whether claims are any: an authorize function that gives nothing, or an empty object, knows nobody. */
function isSomething(claims: unknown): boolean {
  if (typeof claims !== "object" || claims === null) return Boolean(claims);
  return Array.isArray(claims) ? claims.length > 0 : Reflect.ownKeys(claims).length > 0;
}
