/**
 * Rows of the parity table: events, dead letters, values, and descriptions.
 *
 * @module
 */
import { broken, byPython, differs, type Feature, inOurs, inPython } from "./parity_table.ts";
import { deathOf, type Side } from "./parity_stage.ts";
import { newTrace } from "./support.ts";

/** Whether a failed message of this trace is among the dead letters. */
const lettersOf = (send: (side: Side, traceId: string) => Promise<unknown>) => async (side: Side) => {
  const traceId = newTrace();
  await send(side, traceId);
  return (await side.letters(traceId)).map((letter) => {
    const { reason, count } = deathOf(letter);
    return [reason, count];
  });
};

const asText = (name: string) => async ({ caller, service }: Side) =>
  await caller.text(service, "one", { name }).catch((error: Error) => {
    if (error.message.includes("cannot be sent")) return "refused";
    throw error;
  });

/** What a method's event says, if it went out. */
const eventsOf = (method: string) => async ({ caller, service, events }: Side) => {
  const traceId = newTrace();
  await caller.ask(service, method, { topic: "parity.done" }, { traceId });
  return (await events(traceId)).map(({ payload }) => (JSON.parse(payload) as { event: unknown }).event);
};

const topics = ["a.created", "a.b.created", "created", "audit", "audit.a", "audit.a.b", "orders.paid"];
const payloads = [{ id: 1, text: "✓" }, [1, null], "text", 0, false];

export const events: readonly Feature[] = [
  {
    name: "event: any JSON, with its context, in its order",
    see: async ({ caller, got }) => {
      const traceId = newTrace();
      for (const payload of payloads) {
        await caller.publish("parity.audit", payload, { traceId, context: { u: 1 } });
      }
      const arrivals = await got(traceId);
      return [arrivals.map(({ body }) => body), arrivals.every(({ context }) => "u" in (context as object))];
    },
    works: [payloads, true],
  },
  {
    name: "event: wildcards `*` and `#`",
    see: async ({ caller, got }) => {
      const traceId = newTrace();
      for (const topic of topics) await caller.publish(`parity.${topic}`, { topic }, { traceId });
      return (await got(traceId)).map(({ body }) => (body as { topic: string }).topic);
    },
    works: ["a.created", "audit", "audit.a", "audit.a.b"],
  },
  {
    name: "event: a handler that fails sends it to the dead letters",
    see: lettersOf(({ caller }, traceId) => caller.publish("parity.audit", { fail: true }, { traceId })),
    works: [["rejected", 1]],
  },
  {
    name: "event: an asynchronous handler is done before the event is",
    see: async ({ caller, service, got }) => {
      const [traceId, key] = [newTrace(), newTrace()];
      await caller.publish("parity.audit", { later: key }, { traceId });
      await got(traceId);
      return (await caller.ask(service, "handled_later", { key })).result;
    },
    works: true,
    but: inPython(broken("settled, and never run", false)),
    defects: [{
      list: "repeat",
      what: "events are acked before their handler finishes",
      instead: "an event is acked when its handlers are done",
    }],
  },
  {
    name: "event: sent by a method with its result (NuropbSuccess, `ctx.emit`)",
    see: eventsOf("success"),
    works: [{ id: 9 }],
  },
  {
    name: "event: added to the context by a method (`ctx.add_event`, `ctx.emit`)",
    see: eventsOf("add_event"),
    works: [{ id: 9 }],
    but: inPython(broken("never sent", [])),
    defects: [{
      list: "repeat",
      what: "events of `ctx.add_event` are never sent",
      instead: "events of `ctx.emit` go out with the result",
    }],
  },
  {
    name: "event: one that is to be encrypted is refused, not sent plain",
    see: async ({ caller, sent }) => {
      const traceId = newTrace();
      // A Python service that listened would close its channel over it.
      const told = await caller.publish("parity.unheard", { id: 1 }, { traceId, encrypted: true });
      if (told !== "sent") return told;
      const { properties, payload } = await sent(traceId);
      return [properties.headers?.["encrypted"], (JSON.parse(payload) as { event: unknown }).event];
    },
    works: "NuropbValidationError",
    but: byPython(broken("flagged as encrypted, and sent plain", ["yes", { id: 1 }])),
    defects: [{
      list: "repeat",
      what: "encrypted events are flagged, and sent plain",
      instead: "an encrypted event is refused at the sender: NuropbValidationError",
    }],
  },
  {
    name: "dead letters: a command that fails",
    see: lettersOf(({ caller, service }, traceId) => caller.command(service, "verr", {}, { traceId })),
    works: [["rejected", 1]],
  },
  {
    name: "dead letters: a command that expires in the queue",
    see: lettersOf(async ({ caller, service, sent }, traceId) => {
      const before = newTrace();
      const busy = caller.ask(service, "slow", { sleep: 0.3 }, { traceId: before });
      await sent(before);
      await caller.command(service, "add", { a: 1 }, { traceId, ttl: 20 });
      await busy;
    }),
    works: [["expired", 1]],
  },
  {
    name: "dead letters: without requests whose error was answered, and their tokens",
    see: async ({ caller, service, letters }) => {
      const [traceId, Authorization] = [newTrace(), "Bearer secret"];
      await caller.ask(service, "verr", {}, { traceId, context: { Authorization } });
      return (await letters(traceId)).map(({ payload }) => payload.includes(Authorization));
    },
    works: [],
    but: inPython(broken("kept there, with the token", [true])),
    defects: [{
      list: "live",
      what: "every request that failed goes to the dead letters, tokens included",
      instead: "a request that was answered is done, be it with an error",
    }],
  },
  {
    name: "value: NaN",
    see: asText("nan"),
    works: "nan",
    but: inOurs(differs("refused, as JSON has none", "refused")),
  },
  {
    name: "value: Infinity",
    see: async (side) => (await asText("inf")(side)).replace("infinity", "inf"),
    works: "inf",
    but: inOurs(differs("refused, as JSON has none", "refused")),
  },
  {
    name: "value: integer past 2^53",
    see: asText("big"),
    works: String(2n ** 70n),
    but: inOurs(differs("a float", "1.1805916207174113e+21")),
  },
  { name: "value: Decimal, as text", see: asText("dec"), works: "12.30" },
  {
    name: "value: date and time, as text",
    see: asText("dt"),
    works: "2024-01-02t03:04:05.678901z",
    but: inOurs(differs("in milliseconds", "2024-01-02t03:04:05.678z")),
  },
  {
    name: "value: date and time with a zone, as text that says it once",
    see: asText("dtz"),
    works: "2024-01-02t03:04:05.000z",
    but: inPython(broken("ends in `+00:00Z`", "2024-01-02t03:04:05+00:00z")),
  },
  {
    name: "describe: name, version, text, and the methods that can be called",
    see: async ({ caller, service }) => {
      const { name, version, text, methods } = await caller.describe(service);
      const listed = ["add", "success", "hidden", "_private"].filter((method) => methods.includes(method));
      return [name === service, version, text, listed];
    },
    works: [true, "1.2.3", "Orders service doc", ["add", "success"]],
  },
  {
    name: "describe: params as JSON Schema",
    see: async ({ caller, service }) => {
      const { properties } = (await caller.describe(service)).add as { properties: unknown };
      return Array.isArray(properties) ? "pairs" : "an object";
    },
    works: "an object",
    but: { "Python calls Python": broken("a list of pairs, with Python's type names", "pairs") },
  },
  {
    name: "describe: asked again",
    see: ({ caller, service }) => caller.refresh(service),
    works: "refreshed",
    but: byPython(broken("KeyError", "KeyError")),
    defects: [{
      list: "repeat",
      what: "the description of a service cannot be refreshed",
      instead: "`describe(service, { refresh: true })` asks again",
    }],
  },
];
