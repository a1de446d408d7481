import assert from "node:assert/strict";
import { NuropbCallAgain, NuropbValidationError } from "@nuropb/mesh";
import type { Context, DedupeOptions, ServeOptions } from "@nuropb/mesh";
import { afterEach, describe, it } from "@std/testing/bdd";
import { bytesOf } from "../../src/message.ts";
import type { Message } from "../../src/message.ts";
import { checkConnectOptions } from "../../src/options.ts";
import { openerOf, parseUrl } from "../../src/transport/open.ts";
import { EVENTS_EXCHANGE, RPC_EXCHANGE } from "../../src/transport/topology.ts";
import type { Connection } from "../../src/transport/transport.ts";
import { encryptRequest, importPublicKey } from "../../src/wire/encryption.ts";
import { decodeResponse, encodeCall, encodeEvent, withEncryptedBody } from "../../src/wire/envelope.ts";
import type { Call } from "../../src/wire/envelope.ts";
import { uniqueName, urls } from "../support/env.ts";
import { eventually, failure, signal, stage, within } from "./stage.ts";
import { drain } from "./support_letters.ts";

/** A caller that sends what it likes, as often as it likes. */
interface RawCaller {
  readonly connection: Connection;
  readonly answers: Message[];
  /** The results or errors that came, once there are so many. */
  results(count: number): Promise<unknown[]>;
}

const correlationId = () => crypto.randomUUID().replaceAll("-", "");

function encode(call: Pick<Call, "service" | "method"> & Partial<Call>): Message {
  return encodeCall(
    { type: "request", params: {}, context: {}, correlationId: correlationId(), traceId: "t", ...call },
    RPC_EXCHANGE,
  );
}

/** What ran, in an order that does not tell which was first. */
function sorted(runs: readonly unknown[]): unknown[] {
  return runs.map((run) => JSON.stringify(run)).toSorted().map((run) => JSON.parse(run));
}

for (const { name, url } of urls()) {
  describe(`a service with dedupe on ${name}`, () => {
    const open = stage(url);
    const connections: Connection[] = [];
    afterEach(async () => {
      await Promise.all(connections.splice(0).map((connection) => connection.close()));
    });

    async function caller(): Promise<RawCaller> {
      const answers: Message[] = [];
      const nothing = () => {};
      const connection = await openerOf(parseUrl(url), checkConnectOptions({}))({
        onreply: (message) => answers.push(message),
        onreturn: (message) => assert.fail(`${message.routingKey} is nobody's`),
        onreset: nothing,
        onrefused: nothing,
        onpipelined: nothing,
        onflow: nothing,
        onclose: nothing,
      }, new AbortController().signal);
      connections.push(connection);
      const results = async (count: number) => {
        await eventually(() => answers.length, (length) => length >= count);
        return answers.map((answer) => {
          const { result, error } = decodeResponse(answer, undefined, "number");
          return error ?? result;
        });
      };
      return { connection, answers, results };
    }

    /** Sends a request as one of this caller's own. */
    function send({ connection }: RawCaller, message: Message): void {
      const properties = { ...message.properties, replyTo: connection.replyTo };
      connection.send({ ...message, properties });
    }

    /** A service that counts, and one method of which takes as long as the test wants. */
    async function counting(dedupe: DedupeOptions | undefined, more: ServeOptions = {}) {
      const runs: unknown[] = [];
      const [begun, end] = [signal(), signal()];
      const topic = uniqueName("topic");
      const count = (params: unknown) => runs.push(params);
      const service = await open.service({
        count,
        running: () => runs.length,
        slow: async (params: unknown) => {
          count(params);
          begun.send();
          await end.promise;
          return runs.length;
        },
        fail: (params: unknown) => {
          throw new Error(`failure ${count(params)}`);
        },
        again: (params: unknown, { redelivered }: Context) => {
          count(params);
          if (!redelivered) throw new NuropbCallAgain("not yet");
          return runs.length;
        },
      }, { events: { [topic]: count }, ...(dedupe === undefined ? {} : { dedupe }), ...more });
      return { service, runs, begun, end, topic };
    }

    it("runs a request once that comes twice in one breath, and answers both", async () => {
      const { service, runs } = await counting({});
      const raw = await caller();
      const requests = Array.from(
        { length: 20 },
        (_, number) => encode({ service: service.name, method: "count", params: { number } }),
      );
      for (const request of requests) for (let twin = 0; twin < 3; twin++) send(raw, request);
      await raw.results(60);
      assert.equal(runs.length, 20);
      const answers = raw.answers.map(({ properties, body }) => `${properties.correlationId} ${body}`);
      assert.equal(new Set(answers).size, 20);
    });

    it("answers one that comes while the first is being handled, to where it came from", async () => {
      const { service, runs, begun, end } = await counting({});
      const [first, second] = [await caller(), await caller()];
      const request = encode({ service: service.name, method: "slow" });
      send(first, request);
      await within(begun.promise);
      send(second, request);
      // Whatever else comes goes its way meanwhile.
      send(second, encode({ service: service.name, method: "running" }));
      assert.deepEqual(await second.results(1), [1]);
      assert.deepEqual(first.answers, []);
      end.send();
      assert.deepEqual([await first.results(1), await second.results(2)], [[1], [1, 1]]);
      assert.equal(runs.length, 1);
    });

    it("gives the first answer again, also when that was an error", async () => {
      const { service, runs } = await counting({});
      const raw = await caller();
      for (const method of ["count", "fail"]) {
        const request = encode({ service: service.name, method });
        const before = raw.answers.length;
        send(raw, request);
        const first = (await raw.results(before + 1)).at(-1);
        send(raw, request);
        assert.deepEqual((await raw.results(before + 2)).at(-1), first);
      }
      assert.equal(runs.length, 2);
    });

    it("gives nobody an answer by the id alone: another body under it is another request", async () => {
      const { service, runs } = await counting({});
      const raw = await caller();
      const id = correlationId();
      for (const number of [1, 2]) {
        send(raw, encode({ service: service.name, method: "count", params: { number }, correlationId: id }));
      }
      assert.deepEqual((await raw.results(2)).toSorted(), [1, 2]);
      assert.deepEqual(sorted(runs), [{ number: 1 }, { number: 2 }]);
    });

    it("runs an encrypted request once, and gives both the answer that their key opens", async () => {
      const { service, runs } = await counting({}, { methods: { count: { encrypted: true } } as object });
      const raw = await caller();
      const { publicKey } = await (await open.mesh()).describe(service.name);
      const request = encode({ service: service.name, method: "count" });
      const sealed = await encryptRequest(bytesOf(request.body), await importPublicKey(publicKey!));
      for (let twin = 0; twin < 2; twin++) send(raw, withEncryptedBody(request, sealed.body));
      await eventually(() => raw.answers.length, (length) => length === 2);
      for (const answer of raw.answers) {
        const body = await sealed.key.decrypt(bytesOf(answer.body));
        assert.equal(decodeResponse(answer, body, "number").result, 1);
      }
      assert.equal(runs.length, 1);
    });

    it("runs commands and events once that come twice", async () => {
      const { service, runs, topic } = await counting({}, { concurrency: 1 });
      const raw = await caller();
      const command = encode({ type: "command", service: service.name, method: "count", params: { a: 1 } });
      const event = encodeEvent({
        type: "event",
        topic,
        event: { b: 1 },
        context: {},
        correlationId: correlationId(),
        traceId: "t",
        target: null,
      }, EVENTS_EXCHANGE);
      for (let twin = 0; twin < 3; twin++) {
        await raw.connection.publish(command, true);
        await raw.connection.publish(event, false);
      }
      await eventually(() => runs.length, (length) => length >= 2);
      assert.deepEqual(await drain(await open.mesh(), service.name), []);
      assert.deepEqual(sorted(runs), [{ a: 1 }, { b: 1 }]);
    });

    it("runs a command that failed again when it comes again: its first went to the dead letters", async () => {
      const { service, runs } = await counting({}, { concurrency: 1 });
      const raw = await caller();
      const command = encode({ type: "command", service: service.name, method: "fail" });
      for (let twin = 0; twin < 3; twin++) await raw.connection.publish(command, true);
      await eventually(() => runs.length, (length) => length === 3);
      const letters = await drain(await open.mesh(), service.name);
      assert.equal(letters.length, 3);
      assert.equal(runs.length, 3);
    });

    it("runs again what asked to be called again, and then answers its twins too", async () => {
      const { service, runs } = await counting({}, { concurrency: 8 });
      const raw = await caller();
      const request = encode({ service: service.name, method: "again" });
      send(raw, request);
      assert.deepEqual(await raw.results(1), [2]);
      send(raw, request);
      assert.deepEqual(await raw.results(2), [2, 2]);
      assert.equal(runs.length, 2);
    });

    it("forgets the oldest of more than `size`", async () => {
      const { service, runs } = await counting({ size: 2 }, { concurrency: 1 });
      const raw = await caller();
      const requests = [1, 2, 3].map((number) =>
        encode({ service: service.name, method: "count", params: { number } })
      );
      // Of the last round, 3 and 2 are remembered.
      const order = [1, 2, 2, 1, 3, 3, 1, 2].map((number) => requests[number - 1]!);
      for (const [index, request] of order.entries()) {
        send(raw, request);
        await raw.results(index + 1);
      }
      assert.deepEqual(runs, [1, 2, 3, 1, 2].map((number) => ({ number })));
    });

    it("forgets after `ttl`", async () => {
      const { service, runs } = await counting({ ttl: 1 });
      const raw = await caller();
      const request = encode({ service: service.name, method: "count" });
      send(raw, request);
      await raw.results(1);
      await eventually(() => {
        send(raw, request);
        return runs.length;
      }, (length) => length > 1);
    });

    it("waits, closing, for the twins of what is running, and answers them", async () => {
      const { service, runs, begun, end } = await counting({});
      const raw = await caller();
      const request = encode({ service: service.name, method: "slow" });
      send(raw, request);
      await within(begun.promise);
      send(raw, request);
      send(raw, encode({ service: service.name, method: "running" }));
      await raw.results(1);
      const closed = service.close();
      end.send();
      assert.deepEqual(await raw.results(3), [1, 1, 1]);
      await within(closed);
      assert.equal(runs.length, 1);
    });

    it("closes after drainTimeout though twins wait, which then are the queue's again", async () => {
      const { service, begun } = await counting({}, { drainTimeout: 50 });
      const raw = await caller();
      const request = encode({ service: service.name, method: "slow" });
      send(raw, request);
      await within(begun.promise);
      send(raw, request);
      send(raw, encode({ service: service.name, method: "running" }));
      await raw.results(1);
      await within(service.close());
      await open.service({ slow: () => "the next one's" }, { name: service.name });
      assert.deepEqual((await raw.results(3)).slice(1), ["the next one's", "the next one's"]);
    });

    it("is an option: without it a request that comes twice is handled twice", async () => {
      const { service, runs } = await counting(undefined);
      const raw = await caller();
      const request = encode({ service: service.name, method: "count" });
      for (let twin = 0; twin < 2; twin++) send(raw, request);
      assert.deepEqual((await raw.results(2)).toSorted(), [1, 2]);
      assert.equal(runs.length, 2);
    });

    it("is refused with a size or ttl that cannot be one", async () => {
      for (const dedupe of [{ size: 0 }, { size: 1.5 }, { ttl: 0 }, { ttl: Infinity }]) {
        const error = await failure(NuropbValidationError, () => open.service({ work() {} }, { dedupe }));
        assert.match(error.message, new RegExp(`dedupe\\.${Object.keys(dedupe)[0]}`));
      }
    });
  });
}
