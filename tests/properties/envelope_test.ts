import assert from "node:assert/strict";
import fc from "fast-check";
import { describe, it } from "@std/testing/bdd";
import type { MeshResponse } from "../../src/calls.ts";
import { NuropbMessageError, NuropbValidationError } from "../../src/errors.ts";
import { bytesOf } from "../../src/message.ts";
import type { Message } from "../../src/message.ts";
import {
  decodeEvent,
  decodeResponse,
  decodeServiceMessage,
  encodeCall,
  encodeEvent,
  encodeResponse,
} from "../../src/wire/envelope.ts";
import type { Call, Event } from "../../src/wire/envelope.ts";
import type { Integers } from "../../src/wire/json.ts";
import { anything, damaged, damages, data, jsonObjects, jsonValues, keys, texts } from "./arbitraries.ts";
import { check, outcomeOf } from "./property.ts";

const ids = fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: 32, maxLength: 32 });
const traceIds = fc.option(texts);

const calls: fc.Arbitrary<Call> = fc.record({
  type: fc.constantFrom("request", "command"),
  service: texts,
  method: texts,
  params: jsonObjects,
  context: jsonObjects,
  correlationId: ids,
  traceId: traceIds,
  replyTo: fc.option(fc.string({ minLength: 1 }), { nil: undefined }),
  ttl: fc.option(fc.integer({ min: 1, max: 2 ** 31 - 1 }), { nil: undefined }),
});

const events: fc.Arbitrary<Event> = fc.record({
  type: fc.constant("event"),
  topic: texts,
  event: jsonValues,
  context: jsonObjects,
  correlationId: ids,
  traceId: traceIds,
  target: fc.option(fc.array(texts, { maxLength: 3 })),
});

const responses: fc.Arbitrary<MeshResponse> = fc.record({
  result: jsonValues,
  error: fc.option(fc.record({ error: texts, description: texts })),
  correlationId: texts,
  traceId: traceIds,
  context: jsonObjects,
  warning: fc.option(texts),
});

/** As the other side gets it: what JSON makes of it. Keys of objects have an order, and text shows all of it. */
const carried = (value: unknown) => JSON.stringify(value);

/** The readers of each side. */
const readers: readonly ((message: Message, integers: Integers) => unknown)[] = [
  (message, integers) => decodeServiceMessage(message, message.body, integers),
  (message, integers) => decodeEvent(message, integers),
  (message, integers) => decodeResponse(message, message.body, integers),
];

/** Reads a message in every way there is; what cannot be read must say so in the right way. */
function readAll(message: Message): void {
  for (const read of readers) {
    for (const integers of ["number", "bigint"] as const) {
      outcomeOf(() => read(message, integers), NuropbMessageError);
    }
  }
}

describe("a message that is written and read", () => {
  it("is the same request or command", () => {
    check(
      5_000,
      fc.property(calls, (call) => {
        const read = decodeServiceMessage(encodeCall(call, "exchange"));
        assert.equal(carried(read), carried({ ...call, readsBare: true }));
      }),
    );
  });

  it("is the same event", () => {
    check(
      5_000,
      fc.property(events, (event) => {
        const message = encodeEvent(event, "exchange");
        assert.equal(carried(decodeServiceMessage(message)), carried(event));
        assert.equal(carried(decodeEvent(message)), carried(event));
      }),
    );
  });

  it("is the same response", () => {
    check(
      5_000,
      fc.property(responses, (response) => {
        assert.equal(carried(decodeResponse(encodeResponse(response, "queue"))), carried(response));
        assert.equal(carried(decodeResponse(encodeResponse(response, "queue", true))), carried(response));
      }),
    );
  });
});

describe("a value that is anything at all", () => {
  const call: Call = {
    type: "request",
    service: "s",
    method: "m",
    params: {},
    context: {},
    correlationId: "c",
    traceId: null,
  };

  it("is sent as JSON has it, or refused as params and context", () => {
    check(
      5_000,
      fc.property(anything, fc.boolean(), (make, inContext) => {
        const value = make();
        const given = inContext ? { context: value } : { params: value };
        const record = { ...call, ...given } as Call;
        const { value: message } = outcomeOf(() => encodeCall(record, "exchange"), NuropbValidationError);
        if (message === undefined) return;
        const read = decodeServiceMessage(message) as Call;
        assert.equal(carried(inContext ? read.context : read.params), carried(value));
      }),
    );
  });

  it("is sent as JSON has it, or refused, as an event and as a result", () => {
    check(
      5_000,
      fc.property(anything, (make) => {
        const value = make();
        const event = { ...call, type: "event" as const, topic: "t", event: value, target: null };
        const response = { ...call, result: value, error: null, correlationId: "c", warning: null };
        const sent = outcomeOf(() => encodeEvent(event, "exchange"), NuropbValidationError);
        const answered = outcomeOf(() => encodeResponse(response, "queue"), NuropbValidationError);
        assert.equal(sent.error?.code, answered.error?.code);
        if (sent.value === undefined || answered.value === undefined) return;
        const expected = carried(value) ?? "null";
        assert.equal(carried(decodeEvent(sent.value).event), expected);
        assert.equal(carried(decodeResponse(answered.value).result), expected);
      }),
    );
  });

  it("is read again wherever it is nested as deep as may be sent, and refused beyond that", () => {
    const levels = fc.array(fc.boolean(), { minLength: 90, maxLength: 110, size: "max" });
    check(
      1_000,
      fc.property(levels, keys, (isArray, key) => {
        let value: unknown = "bottom";
        for (const array of isArray) value = array ? [value] : { [key]: value };
        const event = { ...call, type: "event" as const, topic: "t", event: value, target: null };
        const { value: message, error } = outcomeOf(
          () => encodeEvent(event, "exchange"),
          NuropbValidationError,
        );
        assert.equal(error === undefined, isArray.length <= 99, `${isArray.length} levels`);
        if (message !== undefined) assert.equal(carried(decodeEvent(message).event), carried(value));
      }),
    );
  });
});

describe("a message that a peer wrote", () => {
  const written: fc.Arbitrary<Message> = fc.oneof(
    calls.map((call) => encodeCall(call, "exchange")),
    events.map((event) => encodeEvent(event, "exchange")),
    responses.map((response) => encodeResponse(response, "queue")),
  );

  it("is read or refused, whatever its bytes went through", () => {
    check(
      5_000,
      fc.property(written, damages, (message, all) => {
        readAll({ ...message, body: damaged(bytesOf(message.body), all) });
      }),
    );
  });

  it("is read or refused, whatever its bytes are", () => {
    check(
      3_000,
      fc.property(
        written,
        fc.uint8Array({ maxLength: 200 }),
        (message, body) => readAll({ ...message, body }),
      ),
    );
  });

  it("is read or refused, whatever its fields are", () => {
    const fields = fc.constantFrom(
      "tag",
      "service",
      "method",
      "params",
      "context",
      "correlation_id",
      "trace_id",
      "topic",
      "event",
      "target",
      "result",
      "error",
      "warning",
      "__proto__",
    );
    const changes = fc.array(fc.tuple(fields, fc.option(jsonValues, { freq: 10, nil: undefined })), {
      minLength: 1,
      maxLength: 4,
    });
    check(
      5_000,
      fc.property(written, changes, (message, all) => {
        const entries = Object.entries(JSON.parse(new TextDecoder().decode(bytesOf(message.body))));
        const body = new TextEncoder().encode(JSON.stringify(Object.fromEntries([...entries, ...all])));
        readAll({ ...message, body });
      }),
    );
  });

  it("is read or refused, whatever its headers and properties are", () => {
    const names = ["nuropb_protocol", "nuropb_type", "trace_id", "encrypted", "nuropb_refused"];
    const meant = fc.constantFrom("0.1.1", "request", "command", "event", "response", "yes");
    const table = fc.dictionary(
      fc.oneof(fc.constantFrom(...names), keys),
      fc.oneof(data, meant),
      { maxKeys: 5 },
    );
    const properties = fc.record({ expiration: texts, replyTo: texts, correlationId: texts }, {
      requiredKeys: [],
    });
    check(
      5_000,
      fc.property(written, table, properties, fc.boolean(), (message, headers, given, isMerged) => {
        const all = isMerged ? { ...message.properties.headers, ...headers } : headers;
        readAll({ ...message, properties: { ...message.properties, ...given, headers: all } });
      }),
    );
  });
});
