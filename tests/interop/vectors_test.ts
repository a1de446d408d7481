import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "@std/testing/bdd";
import { Discovery } from "../../src/client/discovery.ts";
import { fromRemote, NuropbValidationError } from "../../src/errors.ts";
import { bytesOf } from "../../src/message.ts";
import type { Message } from "../../src/message.ts";
import {
  decodeResponse,
  decodeServiceMessage,
  encodeCall,
  encodeEvent,
  encodeResponse,
} from "../../src/wire/envelope.ts";

/** A message as Python sent it. */
interface Recorded {
  readonly exchange: string;
  readonly routing_key: string;
  readonly properties: {
    readonly correlation_id: string;
    readonly content_type: string;
    readonly reply_to: string;
    readonly expiration?: string;
  };
  readonly headers: {
    readonly nuropb_type: "request" | "command" | "event" | "response";
    readonly trace_id: string | null;
    readonly encrypted: string;
    readonly [header: string]: string | null;
  };
  /** The exact text. */
  readonly body: string;
}

type Json = Record<string, unknown>;

const file = new URL("./vectors/nuropb-0.1.8.json", import.meta.url);
const { messages } = JSON.parse(readFileSync(file, "utf8")) as { messages: readonly Recorded[] };

const toMessage = ({ exchange, routing_key, properties, headers, body }: Recorded): Message => ({
  exchange,
  routingKey: routing_key,
  properties: {
    contentType: properties.content_type,
    correlationId: properties.correlation_id,
    replyTo: properties.reply_to,
    expiration: properties.expiration,
    headers,
  },
  body: new TextEncoder().encode(body),
});

/** The answer to the request of a method, by its number: Python answers some twice. */
const answerTo = (method: string, number = 0): Message => {
  const answers = messages.filter(({ headers }) =>
    headers.nuropb_type === "response" && headers.trace_id === `trace-${method}`
  );
  const answer = answers[number];
  assert.ok(answer, `answer ${number} to ${method}`);
  return toMessage(answer);
};

/** The bare words of Python's JSON, of which one recorded message has some. */
const hasBareWords = ({ body }: Recorded) => /NaN|Infinity/.test(body);

const textOf = ({ body }: Message): Json => JSON.parse(new TextDecoder().decode(bytesOf(body))) as Json;

/** What a message of ours must have of Python's besides its body. */
function assertSameEnvelope(
  written: Message,
  { exchange, routing_key, properties, headers }: Recorded,
): void {
  assert.deepEqual([written.exchange, written.routingKey], [exchange, routing_key]);
  const { contentType, correlationId, replyTo = "", expiration } = written.properties;
  assert.deepEqual(
    { contentType, correlationId, replyTo, expiration },
    {
      contentType: properties.content_type,
      correlationId: properties.correlation_id,
      replyTo: properties.reply_to,
      expiration: properties.expiration,
    },
  );
  const { nuropb_version: ours, ...others } = written.properties.headers;
  const { nuropb_version: _theirs, ...expected } = headers;
  assert.equal(typeof ours, "string");
  assert.deepEqual(others, expected);
}

describe("the messages recorded of NuroPb 0.1.8", () => {
  const plain = messages.filter(({ headers }) => headers.encrypted === "");

  it("are 59: 22 requests, 1 command, 3 events and 33 responses, of which 2 are encrypted", () => {
    const count = (type: string) => messages.filter(({ headers }) => headers.nuropb_type === type).length;
    assert.deepEqual(["request", "command", "event", "response"].map(count), [22, 1, 3, 33]);
    assert.deepEqual([messages.length, plain.length], [59, 57]);
  });

  for (const [index, recorded] of messages.entries()) {
    const { headers: { nuropb_type: type, trace_id: trace, encrypted }, body } = recorded;
    const what = `number ${index}, a ${type} of ${trace ?? recorded.routing_key}`;
    // Those are for the tests of encryption, in tests/wire.
    if (encrypted === "yes") {
      it(`${what}, is encrypted: two base64 texts with a dot between`, () => {
        assert.match(body, /^[A-Za-z0-9+/]+={0,2}\.[A-Za-z0-9+/]+={0,2}$/);
      });
      continue;
    }
    if (hasBareWords(recorded)) {
      it(`${what}, is read, and refused when it is to be written as JSON`, () => {
        const response = decodeResponse(toMessage(recorded));
        assert.throws(() => encodeResponse(response, recorded.routing_key), NuropbValidationError);
      });
      continue;
    }
    const sent = JSON.parse(body) as Json;
    if (type === "response") {
      it(`${what}, is read and written again as it was`, () => {
        const response = decodeResponse(toMessage(recorded));
        assert.deepEqual(
          {
            result: response.result,
            error: response.error,
            correlation_id: response.correlationId,
            trace_id: response.traceId,
            context: response.context,
            warning: response.warning,
          },
          Object.fromEntries(
            Object.entries(sent).filter(([field]) => field !== "tag" && field !== "reply_to"),
          ),
        );
        const written = encodeResponse(response, recorded.routing_key);
        assert.deepEqual(textOf(written), sent);
        assertSameEnvelope(written, recorded);
      });
      continue;
    }
    it(`${what}, is read and written again as it was`, () => {
      const message = decodeServiceMessage(toMessage(recorded));
      assert.equal(message.type, type);
      const common = {
        context: message.context,
        correlation_id: message.correlationId,
        trace_id: message.traceId,
      };
      if (message.type === "event") {
        const { topic, event, target } = message;
        assert.deepEqual({ tag: type, topic, event, target, ...common }, sent);
        const written = encodeEvent(message, recorded.exchange);
        assert.deepEqual(textOf(written), sent);
        assertSameEnvelope(written, recorded);
        return;
      }
      const { service, method, params, replyTo, ttl } = message;
      assert.deepEqual({ tag: type, service, method, params, ...common }, sent);
      assert.deepEqual(
        [replyTo, ttl],
        [recorded.properties.reply_to, Number(recorded.properties.expiration)],
      );
      const written = encodeCall(message, recorded.exchange);
      assert.deepEqual(textOf(written), sent);
      assertSameEnvelope(written, recorded);
    });
  }

  it("carry numbers, dates and texts as Python writes them", () => {
    assert.deepEqual(decodeResponse(answerTo("types")).result, {
      dt: "2024-01-02T03:04:05.678901Z",
      dtz: "2024-01-02T03:04:05+00:00Z",
      d: "2024-01-02Z",
      t: "03:04:05Z",
      td: "1 day, 0:00:02",
      dec: "12.30",
      dc: { id: "o", qty: 1, when: "2024-01-01T00:00:00Z" },
      set: "{1}",
      nan: NaN,
      inf: Infinity,
      big: 2 ** 70,
      uni: "héllo ✓ \0",
      tuple: [1, 2],
    });
  });

  it("say in their first answer what went wrong, under the name that it has in Python", () => {
    const cases = [
      ["boom", "NuropbException", "ValueError", "bad value"],
      ["aboom", "NuropbException", "ValueError", "bad async value"],
      ["verr", "NuropbValidationError", "NuropbValidationError", "invalid input"],
      ["authn", "NuropbAuthenticationError", "NuropbAuthenticationError", "who are you"],
      ["authz", "NuropbAuthorizationError", "NuropbAuthorizationError", "not allowed"],
      ["depr", "NuropbDeprecatedError", "NuropbDeprecatedError", "old"],
      ["nope", "NuropbHandlingError", "NuropbHandlingError", "Unknown method nope"],
      ["_private", "NuropbHandlingError", "NuropbHandlingError", "Unknown method _private"],
    ] as const;
    for (const [method, name, remote, description] of cases) {
      const { error } = decodeResponse(answerTo(method));
      assert.ok(error, method);
      const made = fromRemote(error.error, error.description);
      assert.deepEqual([made.name, made.remote], [name, { name: remote, description }], method);
    }
  });

  it("often say in their second answer that nothing went wrong", () => {
    const seconds = ["boom", "verr", "nope", "success", "again_loop"].map((method) => answerTo(method, 1));
    for (const second of seconds) assert.equal(decodeResponse(second).error, null);
    assert.deepEqual(decodeResponse(answerTo("success")).result, { ok: 1 });
    assert.equal(decodeResponse(answerTo("success", 1)).result, "NuropbSuccess");
  });

  it("describe a service in what becomes JSON Schema", async () => {
    const discovery = new Discovery(() =>
      Promise.resolve(decodeResponse(answerTo("nuropb_describe")).result)
    );
    const { name, version, description, encryptedMethods, publicKey, methods } = await discovery.describe(
      "orders",
      false,
    );
    assert.deepEqual([name, version, description], ["orders", "1.2.3", "Orders service doc"]);
    assert.equal(encryptedMethods, true);
    assert.match(publicKey ?? "", /^-----BEGIN PUBLIC KEY-----\n/);
    assert.equal(Object.keys(methods).length, 14);
    const encrypted = Object.keys(methods).filter((method) => methods[method]?.requiresEncryption);
    assert.deepEqual(encrypted, ["secret"]);
    assert.deepEqual(methods["add"]?.parameters, {
      type: "object",
      properties: { a: { type: "integer" }, b: { type: "integer", default: 2 } },
      required: ["a"],
    });
    assert.deepEqual(methods["secret"]?.parameters, {
      type: "object",
      properties: { kw: {} },
      required: ["kw"],
    });
  });
});
