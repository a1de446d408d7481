import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { Correlator } from "../../src/client/correlator.ts";
import type { CallChannel, PendingCall } from "../../src/client/correlator.ts";
import { NuropbTransportError } from "../../src/errors.ts";
import type { NuropbErrorCode } from "../../src/errors.ts";
import type { Message } from "../../src/message.ts";
import { noticeRejections, soon, until } from "./fake_broker.ts";

/** A channel that keeps what it is given. */
class Kept {
  readonly sent: Message[] = [];
  readonly replyTo: string;

  constructor(replyTo = "replies") {
    this.replyTo = replyTo;
  }

  send(message: Message): void {
    this.sent.push({ ...message, properties: { ...message.properties } });
  }

  get ids(): (string | undefined)[] {
    return this.sent.map(({ properties }) => properties.correlationId);
  }
}

const request = (correlationId: string): Message => ({
  exchange: "x",
  routingKey: "shop",
  properties: { correlationId, expiration: "30000", headers: {} },
  body: new Uint8Array(0),
});

const call = (more: Partial<PendingCall> = {}): PendingCall => ({
  service: "shop",
  method: "order",
  ttl: 30_000,
  left: 30_000,
  idempotent: false,
  ...more,
});

const lost = (code: NuropbErrorCode = "CONNECTION_LOST") => new NuropbTransportError("scripted", { code });

/** Calls, and gives the answer as it came. */
function ask(
  correlator: Correlator,
  message: Message,
  call: PendingCall,
  channel: CallChannel | undefined,
): Promise<Message> {
  return correlator.call(message, call, channel, (answer) => answer);
}

describe("a request whose connection is lost", () => {
  noticeRejections();

  it("fails, unless it is idempotent: that one goes out again, the same, to answer elsewhere", async () => {
    const correlator = new Correlator(10);
    const [first, second] = [new Kept("here"), new Kept("there")];
    const once = ask(correlator, request("once"), call(), first);
    const twice = ask(correlator, request("twice"), call({ idempotent: true }), first);
    correlator.loseSent(lost(), true);
    await assert.rejects(once, { code: "CONNECTION_LOST", message: /may have run/ });
    correlator.sendWaiting(second);
    assert.deepEqual([first.ids, second.ids], [["once", "twice"], ["twice"]]);
    assert.equal(second.sent[0]!.properties.replyTo, "there");
    assert.equal(correlator.answer(request("twice")), true);
    assert.equal(correlator.answer(request("twice")), false);
    await twice;
    assert.equal(correlator.size, 0);
  });

  it("goes out again whatever it is when the broker did not take it, and once for each connection", async () => {
    const correlator = new Correlator(10);
    const channel = new Kept();
    const answer = ask(correlator, request("a"), call(), channel);
    correlator.loseSent(lost("ACCESS_REFUSED"), false);
    correlator.loseSent(lost("ACCESS_REFUSED"), true);
    correlator.sendWaiting(channel);
    correlator.sendWaiting(channel);
    assert.deepEqual(channel.ids, ["a", "a"]);
    correlator.answer(request("a"));
    await answer;
  });

  it("does not go out again when the broker has closed the channel over it", async () => {
    // It would be closed again and again, without a pause, until the request's time is up.
    for (const code of ["ACCESS_REFUSED", "NOT_FOUND", "PRECONDITION_FAILED", "CHANNEL_CLOSED"] as const) {
      const correlator = new Correlator(10);
      const channel = new Kept();
      const answer = assert.rejects(
        soon(ask(correlator, request("a"), call({ idempotent: true }), channel), 1_000),
      );
      correlator.loseSent(lost(code), true);
      correlator.sendWaiting(channel);
      correlator.failAll(new Error("over"));
      await answer;
      assert.deepEqual(channel.ids, ["a"], code);
    }
  });

  it("goes out with the time that is left, and not at all once that is up", async () => {
    const correlator = new Correlator(10);
    const channel = new Kept();
    const answer = ask(correlator, request("a"), call({ idempotent: true }), channel);
    const short = ask(correlator, request("b"), call({ ttl: 60, left: 20, idempotent: true }), channel);
    correlator.loseSent(lost(), true);
    await assert.rejects(short, { code: "TIMEOUT", message: /60 ms/ });
    correlator.sendWaiting(channel);
    assert.deepEqual(channel.ids, ["a", "b", "a"]);
    const left = Number(channel.sent[2]!.properties.expiration);
    assert.ok(left > 0 && left < 30_000, `${left} ms`);
    correlator.answer(request("a"));
    await answer;
  });

  it("does not go out again after its signal has aborted", async () => {
    const correlator = new Correlator(10);
    const channel = new Kept();
    const controller = new AbortController();
    const answer = ask(
      correlator,
      request("a"),
      call({ idempotent: true, signal: controller.signal }),
      channel,
    );
    correlator.loseSent(lost(), true);
    controller.abort(new Error("enough"));
    await assert.rejects(answer, { message: "enough" });
    correlator.sendWaiting(channel);
    assert.deepEqual(channel.ids, ["a"]);
    assert.equal(correlator.size, 0);
  });

  it("is answered by a late answer of the first time, and then not sent again", async () => {
    const correlator = new Correlator(10);
    const channel = new Kept();
    const answer = ask(correlator, request("a"), call({ idempotent: true }), channel);
    correlator.loseSent(lost(), true);
    assert.equal(correlator.answer(request("a")), true);
    await answer;
    correlator.sendWaiting(channel);
    assert.deepEqual(channel.ids, ["a"]);
  });
});

describe("requests that wait for a connection", () => {
  noticeRejections();

  it("go out in their order, and one that cannot be sent fails alone", async () => {
    const correlator = new Correlator(10);
    const channel = new Kept();
    const answers = ["a", "b", "c"].map((id) => ask(correlator, request(id), call(), undefined));
    correlator.sendWaiting({
      replyTo: "replies",
      send: (message) => {
        if (message.properties.correlationId === "b") throw new Error("too large");
        channel.send(message);
      },
    });
    await assert.rejects(answers[1]!, { message: "too large" });
    assert.deepEqual(channel.ids, ["a", "c"]);
    for (const id of channel.ids) correlator.answer(request(id!));
    await Promise.all([answers[0], answers[2]]);
    assert.equal(correlator.size, 0);
  });

  it("are no more than maxPending, of which those that end make room", async () => {
    const correlator = new Correlator(2);
    const waiting = ["a", "b"].map((id) => ask(correlator, request(id), call({ left: 20 }), undefined));
    await assert.rejects(ask(correlator, request("c"), call(), undefined), { code: "TOO_MANY_PENDING" });
    for (const answer of waiting) await assert.rejects(answer, { code: "TIMEOUT" });
    const last = ask(correlator, request("d"), call(), undefined);
    await until(() => correlator.size === 1);
    correlator.failAll(new Error("closed"));
    await assert.rejects(last, { message: "closed" });
  });

  it("are not to be made any more once all were failed", async () => {
    const correlator = new Correlator(2);
    const channel = new Kept();
    correlator.failAll(new Error("closed"));
    await assert.rejects(soon(ask(correlator, request("a"), call(), channel)), { message: "closed" });
    await assert.rejects(soon(ask(correlator, request("b"), call(), undefined)), { message: "closed" });
    assert.deepEqual(channel.ids, []);
    assert.equal(correlator.size, 0);
  });
});
