/**
 * Rows of the parity table: requests, commands, errors, and what is called again.
 *
 * @module
 */
import { uniqueName } from "../support/env.ts";
import { broken, byPython, type Feature, inPython } from "./parity_table.ts";
import type { Side } from "./parity_stage.ts";
import { newTrace } from "./support.ts";

const ask = (method: string, params: object = {}) => async ({ caller, service }: Side) => {
  const { result, error } = await caller.ask(service, method, params);
  return error ?? result;
};

const named = (method: string) => ({ caller, service }: Side) => caller.named(service, method);

/** How many answers come to one request, once a later one is answered. */
const answersTo = (method: string, params: object = {}) => async ({ caller, service }: Side) => {
  const traceId = newTrace();
  await caller.ask(service, method, params, { traceId });
  await caller.ask(service, "nothing");
  return await caller.answers(traceId);
};

const twice = {
  "Python calls Python": broken("answered twice", 2),
  "ours calls Python": broken("answered twice: the second is dropped", 2),
};

const value = { text: 'héllo ✓ 𝄞 \0 "quoted" \\', numbers: [0, -1.5, 2 ** 53 - 1], deep: [[{ no: null }]] };

export const calls: readonly Feature[] = [
  { name: "request: synchronous method", see: ask("add", { a: 1, b: 5 }), works: 6 },
  { name: "request: asynchronous method", see: ask("slow", { sleep: 0.01 }), works: "slept" },
  { name: "request: default argument", see: ask("add", { a: 1 }), works: 3 },
  { name: "request: no result", see: ask("nothing"), works: null },
  { name: "request: any JSON there and back", see: ask("echo", { value }), works: value },
  {
    name: "request: many at once, each with its own answer",
    see: async ({ caller, service }) => {
      const numbers = Array.from({ length: 50 }, (_, index) => index);
      const sums = await Promise.all(numbers.map((a) => caller.ask(service, "add", { a, b: 1 })));
      return sums.every(({ result }, index) => result === index + 1);
    },
    works: true,
  },
  {
    name: "request: context there and back",
    see: async ({ caller, service }) => {
      const options = { context: { tenant: { id: 7 } } };
      const { result, context } = await caller.ask(service, "context_of", {}, options);
      return [result, context];
    },
    works: [{ tenant: { id: 7 } }, { tenant: { id: 7 } }],
  },
  {
    name: "request: trace id there and back",
    see: async ({ caller, service, got }) => {
      const traceId = newTrace();
      const answer = await caller.ask(service, "add", { a: 1 }, { traceId });
      return [answer.traceId === traceId, (await got(traceId)).length];
    },
    works: [true, 1],
  },
  {
    name: "request: time to live on the message",
    see: async ({ caller, service, sent }) => {
      const traceId = newTrace();
      await caller.ask(service, "add", { a: 1 }, { traceId, ttl: 7_000 });
      return (await sent(traceId)).properties.expiration;
    },
    works: "7000",
  },
  {
    name: "request: the caller stops waiting when the time to live is over",
    see: async ({ caller, service }) => {
      const { result, error } = await caller.ask(service, "slow", { sleep: 0.3 }, { ttl: 100 });
      return error ?? result;
    },
    works: "NuropbTimeoutError",
    but: byPython(broken("waits on", "slept")),
    defects: [
      {
        list: "repeat",
        what: "a request has no deadline at the caller",
        instead: "`ttl` is the caller's deadline too: NuropbTimeoutError",
      },
      {
        list: "live",
        what: "it acks before it responds: a caller can lose an answer, and waits for ever",
        instead: "the caller's own deadline ends the wait: NuropbTimeoutError",
      },
    ],
  },
  {
    name: "request: nobody hosts the service",
    see: async ({ caller }) => (await caller.ask(uniqueName("nobody"), "greet")).error,
    works: "NuropbNotDeliveredError",
  },
  { name: "request: one answer for a result", see: answersTo("add", { a: 1 }), works: 1 },
  {
    name: "request: one answer for an error",
    see: answersTo("verr"),
    works: 1,
    but: twice,
    defects: [{
      list: "live",
      what: "every error is answered twice",
      instead: "a service of ours answers once; of Python's two answers the first counts",
    }],
  },
  {
    name: "request: one answer for NuropbSuccess (`ctx.emit` in ours)",
    see: answersTo("success", { topic: "parity.x" }),
    works: 1,
    but: twice,
    defects: [{
      list: "live",
      what: "every NuropbSuccess is answered twice",
      instead: "a service of ours answers once; of Python's two answers the first counts",
    }],
  },
  {
    name: "command: done once, with params and context, and not answered",
    see: async ({ caller, service, got }) => {
      const traceId = newTrace();
      const told = await caller.command(service, "add", { a: 5 }, { traceId, context: { u: 1 } });
      const arrivals = await got(traceId);
      await caller.ask(service, "nothing");
      return [told, arrivals.map(({ body, context }) => [body, context]), await caller.answers(traceId)];
    },
    works: ["sent", [[{ a: 5 }, { u: 1 }]], 0],
  },
  {
    name: "command: the sender is told that nobody hosts the service",
    see: ({ caller }) => caller.command(uniqueName("nobody"), "greet"),
    works: "NuropbNotDeliveredError",
    but: byPython(broken("lost without a word", "sent")),
    defects: [{
      list: "live",
      what: "it loses what is unroutable and no request",
      instead: "a command that nobody takes rejects with NuropbNotDeliveredError",
    }],
  },
  {
    name: "command: persistent on the broker",
    see: async ({ caller, service, sent }) => {
      const traceId = newTrace();
      await caller.command(service, "add", { a: 1 }, { traceId });
      return (await sent(traceId)).properties.delivery_mode === 2;
    },
    works: true,
    but: byPython(broken("not persistent", false)),
    defects: [{
      list: "live",
      what: "its messages are not persistent",
      instead: "commands are persistent",
    }],
  },
  {
    name: "error: name of an exception in a synchronous method",
    see: named("boom"),
    works: "ValueError",
    but: { "Python calls Python": broken("NuropbException, the name in its text", "NuropbException") },
  },
  { name: "error: name of an exception in an asynchronous method", see: named("aboom"), works: "ValueError" },
  ...([
    ["NuropbValidationError", "verr"],
    ["NuropbAuthenticationError", "authn"],
    ["NuropbAuthorizationError", "authz"],
    ["NuropbDeprecatedError", "depr"],
    ["NuropbHandlingError", "nope"],
  ] as const).flatMap(([name, method], index): Feature[] => [
    { name: `error: ${name}, in the response`, see: named(method), works: name },
    {
      name: `error: ${name}, thrown at the caller`,
      see: ({ caller, service }) => caller.thrown(service, method),
      works: name,
      but: byPython(broken("NuropbMessageError", "NuropbMessageError")),
      ...(index > 0 ? {} : {
        defects: [{
          list: "repeat",
          what: "every remote error type is lost at the caller",
          instead: "each error is thrown as the class of its name",
        }],
      }),
    },
  ]),
  {
    name: "call again: the second delivery succeeds",
    see: ({ caller, service }) =>
      caller.ask(service, "again_once", {}).then(({ result, error }) => error ?? result),
    works: "second time",
  },
  {
    name: "call again: the second delivery asks again",
    see: named("again_loop"),
    works: "NuropbCallAgainReject",
  },
  {
    name: "call again: a command that asks again goes to the dead letters",
    see: async ({ caller, service, letters }) => {
      const traceId = newTrace();
      await caller.command(service, "again_loop", {}, { traceId });
      return (await letters(traceId)).length;
    },
    works: 1,
  },
  {
    name: "hidden method cannot be called",
    see: ask("hidden"),
    works: "NuropbHandlingError",
    but: inPython(broken("can be called", "hidden but callable")),
    defects: [{
      list: "repeat",
      what: "hidden methods can be called",
      instead: "a hidden method is an unknown method",
    }],
  },
  { name: "private method cannot be called", see: ask("_private"), works: "NuropbHandlingError" },
];
