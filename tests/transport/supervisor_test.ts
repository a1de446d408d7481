import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { NuropbNotDeliveredError, NuropbTransportError } from "../../src/errors.ts";
import type { NuropbErrorCode, NuropbException } from "../../src/errors.ts";
import type { Message } from "../../src/message.ts";
import { silent } from "../../src/options.ts";
import { Supervisor } from "../../src/transport/supervisor.ts";
import type { MeshStatus } from "../../src/transport/supervisor.ts";
import type {
  Connection,
  ConnectionHandlers,
  ConsumeOptions,
  Consumer,
  ConsumerHandlers,
  Delivery,
  OpenConnection,
} from "../../src/transport/transport.ts";
import { noticeRejections, soon, until } from "./fake_broker.ts";

/** A connection that a test drives. Everything succeeds unless the test says otherwise. */
class FakeConnection implements Connection {
  readonly replyTo = "replies";
  ready = true;
  blocked: string | undefined;
  readonly handlers: ConnectionHandlers;
  readonly published: Message[] = [];
  readonly consumers: { options: ConsumeOptions; handlers: ConsumerHandlers; closed: boolean }[] = [];
  /** Of the latest consumer, from before it is confirmed. */
  handling: ConsumerHandlers | undefined;
  closed = false;
  onpublish: (message: Message) => Promise<void> = () => Promise.resolve();
  onconsume: (options: ConsumeOptions) => Promise<void> = () => Promise.resolve();
  onclose: () => Promise<void> = () => Promise.resolve();

  constructor(handlers: ConnectionHandlers) {
    this.handlers = handlers;
  }

  /** The connection is gone. */
  lose(error: NuropbTransportError | undefined = failure("CONNECTION_LOST")): void {
    this.closed = true;
    this.handlers.onclose(error);
  }

  send(): void {}

  publish(message: Message): Promise<void> {
    this.published.push(message);
    return this.onpublish(message);
  }

  declare(): Promise<void> {
    return Promise.resolve();
  }

  async consume(options: ConsumeOptions, handlers: ConsumerHandlers): Promise<Consumer> {
    this.handling = handlers;
    await this.onconsume(options);
    const consumer = { options, handlers, closed: false };
    this.consumers.push(consumer);
    const end = () => {
      consumer.closed = true;
      return Promise.resolve();
    };
    return { cancel: end, close: end };
  }

  async close(): Promise<void> {
    await this.onclose();
    this.closed = true;
  }
}

function failure(code: NuropbErrorCode): NuropbTransportError {
  return new NuropbTransportError(`scripted: ${code}`, { code });
}

type Script = (connection: FakeConnection, signal: AbortSignal) => void | Promise<void>;

/** A supervisor of brokers that a test scripts; the script runs before a connection counts as open. */
function supervised(scripts: readonly Script[] = [() => {}], connectTimeout = 1_000) {
  const connections: FakeConnection[] = [];
  const attempts: number[] = [];
  const statuses: MeshStatus[] = [];
  const resets: NuropbException[] = [];
  const readies: number[] = [];
  const brokers = scripts.map((script, index): OpenConnection => async (handlers, signal) => {
    attempts.push(index);
    const connection = new FakeConnection(handlers);
    connections.push(connection);
    await script(connection, signal);
    return connection;
  });
  const handlers = {
    onreply: () => {},
    onreturn: () => {},
    onreset: (error: NuropbException) => resets.push(error),
    onrefused: () => {},
    onpipelined: () => {},
    onready: () => readies.push(0),
    onstatus: (status: MeshStatus) => statuses.push(status),
  };
  const supervisor = new Supervisor(brokers, handlers, connectTimeout, silent);
  return {
    supervisor,
    connections,
    attempts,
    statuses,
    resets,
    readies,
    states: () => statuses.map(({ state }) => state),
  };
}

const signal = () => new AbortController().signal;
const pass = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));
const never = () => new Promise<never>(() => {});
const message: Message = {
  exchange: "x",
  routingKey: "y",
  properties: { headers: {} },
  body: new Uint8Array(0),
};
const options = (): ConsumeOptions => ({ queue: "q", topology: [], prefetch: 1 });

describe("a supervisor, opening,", () => {
  noticeRejections();

  it("tries each broker once, in turn, and fails with the last one's reason", async () => {
    const refuse = (code: NuropbErrorCode): Script => () => Promise.reject(failure(code));
    const { supervisor, attempts, states } = supervised([refuse("CONNECT_FAILED"), refuse("ACCESS_REFUSED")]);
    await assert.rejects(supervisor.open(undefined), { code: "ACCESS_REFUSED" });
    assert.deepEqual(attempts, [0, 1]);
    assert.deepEqual(states(), ["closed"]);
  });

  it("takes the first broker that lets it in", async () => {
    const { supervisor, attempts, connections, states } = supervised([
      () => Promise.reject(failure("CONNECT_FAILED")),
      () => {},
      () => assert.fail("It was asked too"),
    ]);
    await supervisor.open(undefined);
    assert.deepEqual(attempts, [0, 1]);
    assert.equal(supervisor.connection, connections[1]);
    assert.equal(await supervisor.ready(), connections[1]);
    assert.deepEqual(states(), ["open"]);
    await supervisor.close();
  });

  /** Does not answer until it is given up, and notes how long that took. */
  function hangs(waits: number[]): Script {
    return (_connection, signal) => {
      const start = performance.now();
      return new Promise((_resolve, reject) =>
        signal.addEventListener("abort", () => {
          waits.push(performance.now() - start);
          reject(signal.reason);
        })
      );
    };
  }

  it("gives all brokers together no longer than connectTimeout, and each of them its share", async () => {
    const waits: number[] = [];
    const hang = hangs(waits);
    const { supervisor } = supervised([hang, hang, hang], 300);
    const start = performance.now();
    await assert.rejects(supervisor.open(undefined), { code: "CONNECT_FAILED", message: /within \d+ ms/ });
    const elapsed = performance.now() - start;
    assert.ok(elapsed < 450, `${elapsed} ms`);
    assert.equal(waits.length, 3);
    for (const wait of waits) assert.ok(wait > 80 && wait < 200, `${wait} ms`);
  });

  it("waits as long as a timer can, whatever the clock makes of that", async () => {
    const { supervisor, states } = supervised([() => pass(20)], 2 ** 31 - 1);
    const now = Object.getOwnPropertyDescriptor(performance, "now");
    Object.defineProperty(performance, "now", { value: () => 1.3, configurable: true, writable: true });
    try {
      await supervisor.open(undefined);
    } finally {
      if (now === undefined) Reflect.deleteProperty(performance, "now");
      else Object.defineProperty(performance, "now", now);
    }
    assert.deepEqual(states(), ["open"]);
    await supervisor.close();
  });

  it("leaves the last broker all the time that the others did not take", async () => {
    const waits: number[] = [];
    const refuse: Script = () => Promise.reject(failure("CONNECT_FAILED"));
    const { supervisor } = supervised([refuse, refuse, hangs(waits)], 200);
    await assert.rejects(supervisor.open(undefined), { code: "CONNECT_FAILED" });
    assert.ok(waits[0]! > 150, `${waits} ms`);
  });

  it("asks no further broker once the signal has aborted", async () => {
    const controller = new AbortController();
    const { supervisor, attempts } = supervised([
      () => {
        controller.abort(new Error("enough"));
        return Promise.reject(controller.signal.reason);
      },
      () => assert.fail("It was asked too"),
    ]);
    await assert.rejects(supervisor.open(controller.signal), { message: "enough" });
    assert.deepEqual(attempts, [0]);
  });

  it("does not take a connection for open that was lost at once", async () => {
    const { supervisor, connections } = supervised([(connection) => connection.lose()]);
    await assert.rejects(supervisor.open(undefined), { code: "CONNECTION_LOST" });
    assert.ok(connections[0]?.closed);
  });
});

describe("a supervisor, publishing,", () => {
  noticeRejections();

  it("sends the same message again until a connection has taken it", async () => {
    const { supervisor, connections } = supervised([(connection) => {
      if (connections.length < 3) {
        connection.onpublish = () => {
          connection.lose();
          return Promise.reject(failure(connections.length === 1 ? "CONNECTION_LOST" : "TIMEOUT"));
        };
      }
    }]);
    await supervisor.open(undefined);
    await supervisor.publish(message, true, { signal: signal() });
    assert.deepEqual(connections.map(({ published }) => published), [[message], [message], [message]]);
    await supervisor.close();
  });

  it("fails at once with what is no loss of the connection", async () => {
    const { supervisor, connections } = supervised();
    await supervisor.open(undefined);
    for (
      const reason of [
        failure("ACCESS_REFUSED"),
        failure("CHANNEL_CLOSED"),
        new NuropbNotDeliveredError("no"),
      ]
    ) {
      connections[0]!.onpublish = () => Promise.reject(reason);
      await assert.rejects(supervisor.publish(message, true, { signal: signal() }), reason);
    }
    assert.equal(connections[0]!.published.length, 3);
    await supervisor.close();
  });

  it("leaves nothing behind of those who gave up waiting during a long outage", async () => {
    const { supervisor, connections } = supervised([() => connections.length === 1 ? undefined : never()]);
    await supervisor.open(undefined);
    connections[0]!.lose();
    const controllers = Array.from({ length: 1_000 }, () => new AbortController());
    const outcomes = Promise.allSettled(
      controllers.flatMap((controller) => [
        supervisor.publish(message, true, controller),
        supervisor.ready(controller.signal),
      ]),
    );
    const stays = assert.rejects(soon(supervisor.ready()), { code: "CLOSED" });
    assert.equal(supervisor.waiting, 2_001);
    for (const controller of controllers) controller.abort();
    await outcomes;
    assert.equal(supervisor.waiting, 1);
    await supervisor.close();
    await stays;
    assert.equal(supervisor.waiting, 0);
  });

  it("gives up when its signal aborts while no connection is there", async () => {
    const { supervisor, connections } = supervised([() => connections.length === 1 ? undefined : never()]);
    await supervisor.open(undefined);
    connections[0]!.lose();
    const controller = new AbortController();
    const publishing = supervisor.publish(message, true, controller);
    controller.abort(new Error("enough"));
    await assert.rejects(publishing, { message: "enough" });
    await supervisor.close();
  });

  it("fails when it is closed, even if the connection drops in place of a goodbye", async () => {
    const { supervisor, connections } = supervised();
    await supervisor.open(undefined);
    const [connection] = connections;
    let drop = () => {};
    connection!.onpublish = () => {
      // A loop that never ends would hang the whole process, so this one stops it.
      if (connection!.published.length > 100) return never();
      if (connection!.closed) return Promise.reject(failure("CONNECTION_LOST"));
      return new Promise((_resolve, reject) => drop = () => reject(failure("CONNECTION_LOST")));
    };
    connection!.onclose = () => {
      drop();
      connection!.lose();
      return Promise.resolve();
    };
    const publishing = assert.rejects(soon(supervisor.publish(message, true, { signal: signal() })), {
      code: "CLOSED",
    });
    await supervisor.close();
    await publishing;
    assert.equal(connection!.published.length, 1);
  });
});

describe("a supervisor, consuming,", () => {
  noticeRejections();

  it("sets its consumers up on each new connection, asking for their options anew, before it is open", async () => {
    const { supervisor, connections, statuses } = supervised();
    await supervisor.open(undefined);
    let asked = 0;
    await supervisor.consume(() => ({ ...options(), queue: `q${++asked}` }), () => {});
    connections[0]!.lose();
    await until(() => statuses.at(-1)?.state === "open");
    assert.deepEqual(connections.map(({ consumers }) => consumers.map(({ options }) => options.queue)), [[
      "q1",
    ], ["q2"]]);
    await supervisor.close();
  });

  it("hands on deliveries of each connection", async () => {
    const { supervisor, connections } = supervised();
    await supervisor.open(undefined);
    const deliveries: unknown[] = [];
    await supervisor.consume(options, (delivery) => deliveries.push(delivery));
    for (let round = 0; round < 3; round++) {
      await until(() => connections[round]?.consumers.length === 1);
      connections[round]!.consumers[0]!.handlers.ondelivery(round as unknown as Delivery);
      connections[round]!.lose();
    }
    assert.deepEqual(deliveries, [0, 1, 2]);
    await supervisor.close();
  });

  it("fails with the broker's refusal the first time", async () => {
    const { supervisor, connections, statuses } = supervised();
    await supervisor.open(undefined);
    connections[0]!.onconsume = () => Promise.reject(failure("PRECONDITION_FAILED"));
    await assert.rejects(supervisor.consume(options, () => {}), { code: "PRECONDITION_FAILED" });
    connections[0]!.lose();
    await until(() => statuses.at(-1)?.state === "open");
    assert.deepEqual(connections[1]!.consumers, []);
    await supervisor.close();
  });

  it("opens another connection when one is lost while consumers are set up", async () => {
    const { supervisor, connections } = supervised([(connection) => {
      if (connections.length === 2) connection.onconsume = () => Promise.reject(failure("CONNECTION_LOST"));
    }]);
    await supervisor.open(undefined);
    await supervisor.consume(options, () => {});
    connections[0]!.lose();
    await until(() => connections[2]?.consumers.length === 1);
    assert.ok(connections[1]?.closed);
    await supervisor.close();
  });

  it("gives the setting up of consumers no longer than connectTimeout either", async () => {
    const { supervisor, connections } = supervised([(connection) => {
      if (connections.length === 2) connection.onconsume = never;
    }], 50);
    await supervisor.open(undefined);
    await supervisor.consume(options, () => {});
    connections[0]!.lose();
    await until(() => connections[2]?.consumers.length === 1);
    assert.ok(connections[1]?.closed);
    await supervisor.close();
  });

  it("does not set a closed consumer up again, closed before or meanwhile", async () => {
    const { supervisor, connections, statuses } = supervised();
    await supervisor.open(undefined);
    const first = await supervisor.consume(options, () => {});
    await first.close();
    const second = await supervisor.consume(options, () => {});
    connections[0]!.lose();
    await second.cancel();
    await until(() => statuses.at(-1)?.state === "open");
    assert.deepEqual(connections[1]!.consumers, []);
    await supervisor.close();
  });

  it("hands nothing on that comes to a consumer which was closed while it was set up again", async () => {
    const { supervisor, connections, statuses } = supervised([(connection) => {
      if (connections.length === 2) connection.onconsume = () => new Promise((resolve) => confirm = resolve);
    }]);
    let confirm = () => {};
    await supervisor.open(undefined);
    const handed: Delivery[] = [];
    const consumer = await supervisor.consume(options, (delivery) => void handed.push(delivery));
    connections[0]!.lose();
    await until(() => connections.length === 2 && connections[1]!.handling !== undefined);
    await consumer.close();
    let requeued = 0;
    const deliver = () =>
      connections[1]!.handling!.ondelivery({ requeue: () => requeued++ } as unknown as Delivery);
    deliver();
    confirm();
    await until(() => statuses.at(-1)?.state === "open");
    deliver();
    assert.deepEqual(handed, []);
    assert.equal(requeued, 2);
    assert.ok(connections[1]!.consumers[0]!.closed);
    await supervisor.close();
  });

  it("closes a consumer that comes about after it was given up", async () => {
    const { supervisor, connections } = supervised();
    await supervisor.open(undefined);
    let confirm = () => {};
    connections[0]!.onconsume = () => new Promise((resolve) => confirm = resolve);
    const controller = new AbortController();
    const consuming = supervisor.consume(options, () => {}, controller.signal);
    await until(() => connections[0] !== undefined);
    await new Promise((resolve) => setTimeout(resolve));
    controller.abort(new Error("enough"));
    await assert.rejects(consuming, { message: "enough" });
    confirm();
    await until(() => connections[0]!.consumers.length === 1);
    await until(() => connections[0]!.consumers[0]!.closed);
    await supervisor.close();
  });

  it("leaves no rejection behind when its signal has aborted before", async () => {
    const { supervisor, connections } = supervised();
    await supervisor.open(undefined);
    connections[0]!.onconsume = () => Promise.reject(failure("CONNECTION_LOST"));
    const aborted = AbortSignal.abort(new Error("enough"));
    await assert.rejects(supervisor.consume(options, () => {}, aborted), { message: "enough" });
    await supervisor.close();
  });
});

describe("a supervisor, closing,", () => {
  noticeRejections();

  it("gives up an attempt under way, and closes what it gives nevertheless", async () => {
    let finish = () => {};
    const { supervisor, connections, states } = supervised([
      () => connections.length === 1 ? undefined : new Promise<void>((resolve) => finish = resolve),
    ]);
    await supervisor.open(undefined);
    connections[0]!.lose();
    await until(() => connections.length === 2);
    await supervisor.close();
    finish();
    await until(() => connections[1]!.closed);
    assert.deepEqual(states(), ["open", "waiting", "connecting", "closing", "closed"]);
    assert.equal(supervisor.connection, undefined);
  });

  it("opens no other connection when the one it closes is lost", async () => {
    const { supervisor, connections, resets } = supervised();
    await supervisor.open(undefined);
    connections[0]!.onclose = () => {
      connections[0]!.lose();
      return Promise.resolve();
    };
    await supervisor.close();
    // Longer than the first delay before a reconnection.
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal(connections.length, 1);
    assert.deepEqual(resets, []);
  });

  it("is over for everyone who asks for it only when it is over", async () => {
    const { supervisor, connections } = supervised();
    await supervisor.open(undefined);
    let finish = () => {};
    connections[0]!.onclose = () => new Promise((resolve) => finish = resolve);
    const over: number[] = [];
    const closings = [1, 2].map((number) => supervisor.close().then(() => over.push(number)));
    await new Promise((resolve) => setTimeout(resolve));
    assert.deepEqual(over, []);
    finish();
    await Promise.all(closings);
    assert.equal(supervisor.status.state, "closed");
    await supervisor.close();
  });

  it("has nobody wait for a connection any more", async () => {
    const { supervisor } = supervised();
    await supervisor.open(undefined);
    await supervisor.close();
    await assert.rejects(soon(supervisor.ready()), { code: "CLOSED" });
    await assert.rejects(soon(supervisor.publish(message, true, { signal: signal() })), { code: "CLOSED" });
    await assert.rejects(soon(supervisor.consume(options, () => {})), { code: "CLOSED" });
  });
});

describe("a supervisor, told of a loss,", () => {
  noticeRejections();

  it("resets the answers that will not come, once, with the reason", async () => {
    const { supervisor, connections, resets } = supervised();
    await supervisor.open(undefined);
    const reason = failure("CONNECTION_LOST");
    connections[0]!.lose(reason);
    connections[0]!.lose(reason);
    assert.equal(resets.length, 1);
    assert.equal(resets[0]?.code, "CONNECTION_LOST");
    assert.equal(resets[0]?.cause, reason);
    await until(() => connections.length === 2);
    await supervisor.close();
  });

  it("tells what went out early that it may have run, when consumers could not be set up", async () => {
    const { supervisor, connections, resets } = supervised([(connection) => {
      if (connections.length === 2) connection.onconsume = () => Promise.reject(failure("CONNECTION_LOST"));
    }]);
    await supervisor.open(undefined);
    await supervisor.consume(options, () => {});
    connections[0]!.lose();
    await until(() => connections[2]?.consumers.length === 1);
    assert.equal(resets.length, 2);
    await supervisor.close();
  });

  it("minds no late word of an old connection", async () => {
    const { supervisor, connections, resets, states } = supervised();
    await supervisor.open(undefined);
    connections[0]!.lose();
    await until(() => states().at(-1) === "open");
    connections[0]!.lose();
    assert.equal(supervisor.connection, connections[1]);
    assert.equal(resets.length, 1);
    assert.deepEqual(states(), ["open", "waiting", "connecting", "open"]);
    await supervisor.close();
  });
});

/** Has time pass a thousand times as fast, and the longest delay come about at random, while a test runs. */
async function inHaste(test: () => Promise<void>): Promise<void> {
  const { setTimeout: inTime } = globalThis;
  const { random } = Math;
  const hasty = (run: () => void, milliseconds = 0) => inTime(run, milliseconds / 1_000);
  Math.random = () => 1;
  globalThis.setTimeout = hasty as typeof setTimeout;
  try {
    await test();
  } finally {
    globalThis.setTimeout = inTime;
    Math.random = random;
  }
}

describe("a supervisor, opening a connection again,", () => {
  noticeRejections();

  /** The waits after a connection was lost, while all attempts fail. */
  async function waitsFor(
    count: number,
    reason: (attempt: number) => NuropbTransportError,
  ): Promise<number[]> {
    const waits: number[] = [];
    await inHaste(async () => {
      const { supervisor, connections, statuses } = supervised([
        () => connections.length === 1 ? undefined : Promise.reject(reason(connections.length - 1)),
      ]);
      await supervisor.open(undefined);
      connections[0]!.lose();
      await until(() => statuses.filter(({ state }) => state === "waiting").length >= count);
      await supervisor.close();
      for (const status of statuses) if (status.state === "waiting") waits.push(status.delay);
    });
    return waits.slice(0, count);
  }

  for (const code of ["CONNECT_FAILED", "CONNECTION_LOST"] as const) {
    it(`waits no longer than two seconds for a broker that cannot be reached: ${code}`, async () => {
      const waits = await waitsFor(8, () => failure(code));
      assert.deepEqual(waits, [100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
    });
  }

  for (const code of ["ACCESS_REFUSED", "VHOST_NOT_FOUND", "PRECONDITION_FAILED"] as const) {
    it(`waits up to half a minute for one that refuses: ${code}`, async () => {
      const waits = await waitsFor(11, () => failure(code));
      assert.deepEqual(
        waits,
        [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000],
      );
    });
  }

  it("judges by the attempt before: a broker that refuses, then is away, is soon found again", async () => {
    const waits = await waitsFor(9, (attempt) => failure(attempt < 7 ? "ACCESS_REFUSED" : "CONNECT_FAILED"));
    assert.deepEqual(waits.slice(5), [3_200, 6_400, 2_000, 2_000]);
  });

  it("waits between half of that time and all of it", async () => {
    const { supervisor, connections, statuses } = supervised();
    await supervisor.open(undefined);
    for (let round = 0; round < 5; round++) {
      connections[round]!.lose();
      await until(() => connections.length === round + 2 && statuses.at(-1)?.state === "open");
    }
    await supervisor.close();
    const waits = statuses.flatMap((status) => status.state === "waiting" ? [status.delay] : []);
    assert.equal(waits.length, 5);
    // One that was lost at once counts as one that was not reached.
    for (const [index, wait] of waits.entries()) {
      const longest = Math.min(2_000, 100 * 2 ** index);
      assert.ok(wait >= longest / 2 && wait <= longest, `${wait} ms`);
    }
  });
});

describe("a supervisor of a connection that takes messages only at times", () => {
  noticeRejections();

  /** Tells it of a change. */
  function flow(connection: FakeConnection, ready: boolean, blocked?: string): void {
    connection.ready = ready;
    connection.blocked = blocked;
    connection.handlers.onflow();
  }

  it("has none until it takes them, and shows why", async () => {
    const { supervisor, connections, statuses, readies } = supervised();
    await supervisor.open(undefined);
    flow(connections[0]!, false, "low on memory");
    assert.equal(supervisor.connection, undefined);
    const waiting = [supervisor.ready(), supervisor.ready()];
    flow(connections[0]!, true);
    assert.deepEqual(await soon(Promise.all(waiting)), [connections[0], connections[0]]);
    assert.deepEqual(statuses, [{ state: "open" }, { state: "open", blocked: "low on memory" }, {
      state: "open",
    }]);
    assert.equal(readies.length, 2);
    await supervisor.close();
  });

  it("keeps nobody waiting who came before it was told twice that it takes none", async () => {
    const { supervisor, connections } = supervised();
    await supervisor.open(undefined);
    flow(connections[0]!, false);
    const waiting = supervisor.ready();
    flow(connections[0]!, false, "low on memory");
    const later = supervisor.ready();
    flow(connections[0]!, true);
    assert.equal(await soon(waiting), connections[0]);
    assert.equal(await soon(later), connections[0]);
    await supervisor.close();
  });

  it("keeps nobody waiting over the loss of that connection", async () => {
    const { supervisor, connections } = supervised();
    await supervisor.open(undefined);
    flow(connections[0]!, false, "low on memory");
    const waiting = supervisor.ready();
    connections[0]!.lose();
    assert.equal(await soon(waiting), connections[1]);
    assert.deepEqual(supervisor.status, { state: "open" });
    await supervisor.close();
  });

  it("takes one that takes none yet for open, and waits for it", async () => {
    const { supervisor, connections, readies } = supervised([(connection) => {
      connection.ready = false;
      connection.blocked = "low on memory";
    }]);
    await supervisor.open(undefined);
    assert.deepEqual(supervisor.status, { state: "open", blocked: "low on memory" });
    assert.equal(readies.length, 0);
    const waiting = supervisor.ready();
    flow(connections[0]!, true);
    assert.equal(await soon(waiting), connections[0]);
    assert.deepEqual(supervisor.status, { state: "open" });
    await supervisor.close();
  });

  it("minds no word of an old one", async () => {
    const { supervisor, connections, statuses } = supervised();
    await supervisor.open(undefined);
    connections[0]!.lose();
    await until(() => statuses.at(-1)?.state === "open");
    flow(connections[0]!, false, "low on memory");
    assert.equal(supervisor.connection, connections[1]);
    assert.deepEqual(supervisor.status, { state: "open" });
    await supervisor.close();
  });
});

describe("a supervisor, closed while it opens,", () => {
  noticeRejections();

  it("asks no further broker, closes what comes about nevertheless, and is closed once", async () => {
    let finish = () => {};
    const { supervisor, connections, states } = supervised([
      () => new Promise<void>((resolve) => finish = resolve),
      () => assert.fail("It was asked too"),
    ]);
    const opening = assert.rejects(soon(supervisor.open(undefined)), { code: "CLOSED" });
    await until(() => connections.length === 1);
    const ready = assert.rejects(soon(supervisor.ready()), { code: "CLOSED" });
    await supervisor.close();
    finish();
    await Promise.all([opening, ready]);
    assert.ok(connections[0]!.closed);
    assert.deepEqual(states(), ["closing", "closed"]);
  });

  it("never is open again, in whatever turn it is closed", async () => {
    for (let turns = 0; turns < 30; turns++) {
      const { supervisor, connections, statuses } = supervised();
      const opening = supervisor.open(undefined).catch(() => {});
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      await supervisor.close();
      await opening;
      assert.equal(supervisor.connection, undefined);
      assert.equal(statuses.at(-1)?.state, "closed");
      assert.ok(connections.every(({ closed }) => closed), `closed after ${turns} turns`);
    }
  });
});
