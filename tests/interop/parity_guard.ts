/**
 * Rows of the parity table: claims and encryption.
 *
 * @module
 */
import { broken, byPython, type Feature, inPython } from "./parity_table.ts";
import type { Side } from "./parity_stage.ts";
import { newTrace } from "./support.ts";

const withToken = (method: string, Authorization?: string) => async ({ caller, service }: Side) => {
  const context = Authorization === undefined ? {} : { Authorization };
  const { result, error } = await caller.ask(service, method, {}, { context });
  return error ?? result;
};

const isEncrypted = async ({ sent }: Side, traceId: string) =>
  (await sent(traceId)).properties.headers?.["encrypted"] === "yes";

/** Every answer and error of a call that is encrypted. */
const encrypted = (method: string, params: object = {}) => async (side: Side) => {
  const traceId = newTrace();
  const { result, error } = await side.caller.ask(side.service, method, params, { traceId, encrypted: true });
  return [error ?? result, await isEncrypted(side, traceId)];
};

export const guard: readonly Feature[] = [
  {
    name: "claims: from the token in the context",
    see: async (side) => {
      const claims = await withToken("whoami", "Bearer tok")(side);
      return (claims as { sub?: unknown }).sub;
    },
    works: "u1",
  },
  {
    name: "claims: no token is refused",
    see: ({ caller, service }) => caller.named(service, "whoami"),
    works: "NuropbAuthenticationError",
    but: {
      "Python calls Python": broken("refused, as a KeyError in a NuropbException", "NuropbException"),
      "ours calls Python": broken("refused, as a KeyError", "KeyError"),
    },
  },
  {
    name: "claims: an authorize function that knows nobody refuses the call",
    see: withToken("for_nobody", "Bearer tok"),
    works: "NuropbAuthenticationError",
    but: inPython(broken("None lets the call through", "let through")),
    defects: [{
      list: "repeat",
      what: "an authorize function that returns None lets the call through",
      instead: "null or empty claims refuse it: NuropbAuthenticationError",
    }],
  },
  {
    name: "claims: always asked for where there is an authorize function",
    see: withToken("forgotten_context", "Bearer tok"),
    works: "NuropbAuthenticationError",
    but: inPython(broken("not asked without `@nuropb_context`", "let through")),
    defects: [{
      list: "repeat",
      what: "authorization is skipped when the context decorator is missing",
      instead: "it needs nothing but `authorize`",
    }],
  },
  {
    name: "encryption: request and response",
    see: encrypted("secret", { kw: "✓" }),
    works: ["secret ✓", true],
  },
  {
    name: "encryption: by the caller itself, where the description asks for it",
    see: async (side) => {
      const traceId = newTrace();
      const wanted = (await side.caller.describe(side.service)).secret;
      await side.caller.ask(side.service, "secret", { kw: "x" }, { traceId });
      return [wanted, await isEncrypted(side, traceId)];
    },
    works: [true, true],
    but: byPython(broken("only when told to", [true, false])),
  },
  {
    name: "encryption: a plain request to a method that requires it is refused",
    see: async ({ caller, service }) => {
      const { result, error } = await caller.ask(service, "secret", { kw: "x" }, { encrypted: false });
      return error ?? result;
    },
    works: "NuropbMessageError",
    but: inPython(broken("not enforced", "secret x")),
    defects: [{
      list: "repeat",
      what: "`requires_encryption` is not enforced",
      instead: "a plain message to an `encrypted` method is refused: NuropbMessageError",
    }],
  },
  {
    name: "encryption: error",
    see: encrypted("verr"),
    works: ["NuropbValidationError", true],
  },
  {
    name: "encryption: command",
    see: async (side) => {
      const traceId = newTrace();
      await side.caller.command(side.service, "add", { a: 5 }, { traceId, encrypted: true });
      const [arrival] = await side.got(traceId);
      return [arrival?.body, await isEncrypted(side, traceId)];
    },
    works: [{ a: 5 }, true],
  },
  {
    name: "encryption: stays in the dead letters",
    see: async ({ caller, service, letters }) => {
      const traceId = newTrace();
      await caller.command(service, "verr", {}, { traceId, encrypted: true });
      return (await letters(traceId)).map(({ payload }) => /^[\w+/]+=*\.[\w+/]+=*$/.test(payload));
    },
    works: [true],
  },
  {
    name: "encryption: call again",
    see: async ({ caller, service, languages }) => {
      let seen: unknown = "never answered";
      const answer = caller.ask(service, "again_once", { key: newTrace() }, { encrypted: true })
        .then(({ result, error }) => seen = error ?? result);
      if (languages.caller === "ours") return await answer;
      // A Python caller waits for ever for what it cannot read, which would be here before the next answers.
      answer.catch(() => {});
      for (let round = 0; round < 2; round++) await caller.ask(service, "nothing");
      return seen;
    },
    works: "second time",
    but: {
      "Python calls Python": broken("never answered", "never answered"),
      "ours calls Python": broken("the answer cannot be read: NuropbMessageError", "NuropbMessageError"),
    },
  },
];
