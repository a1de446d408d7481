import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { Deadlines, NOWHERE, Waits } from "../../src/deadlines.ts";
import type { Expiring, SignalSource } from "../../src/deadlines.ts";
import { deferred } from "../../src/deferred.ts";
import { noticeRejections } from "./fake_broker.ts";

/** The longest time that a timer of the runtime takes. */
const LONGEST = 2 ** 31 - 1;

/** Time and timers by hand, in place of the runtime's own. */
class Clock implements Disposable {
  now = 1_000;
  /** How many timers were set. */
  set = 0;
  /** How much too soon timers ring, as those of Node do, which know whole milliseconds only. */
  early = 0;
  readonly timers = new Map<number, { readonly at: number; readonly ring: () => void }>();
  readonly #restore: () => void;

  constructor() {
    const { setTimeout, clearTimeout } = globalThis;
    const now = Object.getOwnPropertyDescriptor(performance, "now");
    this.#restore = () => {
      Object.assign(globalThis, { setTimeout, clearTimeout });
      if (now === undefined) Reflect.deleteProperty(performance, "now");
      else Object.defineProperty(performance, "now", now);
    };
    Object.defineProperty(performance, "now", { value: () => this.now, configurable: true, writable: true });
    Object.assign(globalThis, {
      setTimeout: (ring: () => void, delay: number) => {
        this.timers.set(++this.set, { at: this.now + (delay > LONGEST ? 1 : delay), ring });
        return this.set;
      },
      clearTimeout: (timer?: number) => this.timers.delete(timer ?? 0),
    });
  }

  /** Lets time pass, and timers ring. */
  pass(milliseconds: number): void {
    const end = this.now + milliseconds;
    for (;;) {
      const [next] = [...this.timers].toSorted(([, a], [, b]) => a.at - b.at);
      if (next === undefined || next[1].at - this.early > end) break;
      this.timers.delete(next[0]);
      this.now = Math.max(this.now, next[1].at - this.early);
      next[1].ring();
    }
    this.now = end;
  }

  [Symbol.dispose](): void {
    this.#restore();
  }
}

interface Item extends Expiring {
  readonly name: string;
}

/** Deadlines with what has expired, and when. */
function recorded(clock: Clock, expire: (item: Item) => void = () => {}) {
  const expired: string[] = [];
  const times: number[] = [];
  const deadlines = new Deadlines<Item>((item) => {
    expired.push(item.name);
    times.push(clock.now);
    expire(item);
  });
  const add = (name: string, milliseconds: number): Item => {
    const item = { name, deadline: clock.now + milliseconds, place: NOWHERE };
    deadlines.add(item);
    return item;
  };
  return { deadlines, expired, times, add };
}

describe("deadlines", () => {
  it("are noticed when they come, in whatever order they were added", () => {
    using clock = new Clock();
    const { expired, times, add } = recorded(clock);
    for (const milliseconds of [300, 100, 200, 400, 50]) add(`${milliseconds}`, milliseconds);
    clock.pass(49);
    assert.deepEqual(expired, []);
    clock.pass(1_000);
    assert.deepEqual(expired, ["50", "100", "200", "300", "400"]);
    assert.deepEqual(times, [1_050, 1_100, 1_200, 1_300, 1_400]);
  });

  it("have one timer, however many they are", () => {
    using clock = new Clock();
    const { deadlines, expired, add } = recorded(clock);
    for (let index = 0; index < 500; index++) {
      add(`${index}`, 10_000 - index);
      assert.equal(clock.timers.size, 1);
    }
    const before = clock.set;
    const items = Array.from({ length: 500 }, () => add("", 20_000));
    assert.equal(clock.set, before, "A later one sets none");
    for (const item of items) deadlines.delete(item);
    clock.pass(10_005);
    assert.equal(expired.length, 500);
    assert.equal(clock.timers.size, 0);
  });

  it("that come shortly after one another are noticed together, at most 5 ms late", () => {
    using clock = new Clock();
    const { expired, times, add } = recorded(clock);
    for (let index = 0; index < 100; index++) add(`${index}`, 100 + index);
    const before = clock.set;
    clock.pass(1_000);
    assert.deepEqual(expired, Array.from({ length: 100 }, (_, index) => `${index}`));
    for (const [index, time] of times.entries()) {
      const late = time - (1_100 + index);
      assert.ok(late >= 0 && late <= 5, `${index} was ${late} ms late`);
    }
    assert.ok(clock.set - before <= 20, `${clock.set - before} timers`);
  });

  it("are all noticed once, when nothing could run for a while", () => {
    using clock = new Clock();
    const { expired, add } = recorded(clock);
    for (const milliseconds of [10, 5_000, 20, 30]) add(`${milliseconds}`, milliseconds);
    clock.now += 1_000;
    clock.pass(0);
    assert.deepEqual(expired, ["10", "20", "30"]);
    clock.pass(10_000);
    assert.deepEqual(expired, ["10", "20", "30", "5000"]);
  });

  it("are not noticed before their time by a timer that rings too soon", () => {
    using clock = new Clock();
    clock.early = 0.7;
    const { times, add } = recorded(clock);
    add("", 100.5);
    add("", 300);
    clock.pass(1_000);
    assert.equal(times.length, 2);
    for (const [index, deadline] of [1_100.5, 1_300].entries()) {
      assert.ok(times[index]! >= deadline && times[index]! <= deadline + 5, `${times}`);
    }
  });

  it("that are past are noticed in another turn", () => {
    using clock = new Clock();
    const { expired, add } = recorded(clock);
    add("now", 0);
    add("past", -1_000);
    assert.deepEqual(expired, []);
    clock.pass(0);
    assert.deepEqual(expired.toSorted(), ["now", "past"]);
    assert.equal(clock.timers.size, 0);
  });

  it("that take as long as a timer can do not have it ring at once, whatever the clock makes of them", () => {
    using clock = new Clock();
    const { expired, add } = recorded(clock);
    clock.now = 1.3;
    const { deadline } = add("", LONGEST);
    assert.ok(deadline - clock.now > LONGEST);
    clock.pass(LONGEST - 1);
    assert.deepEqual([expired, clock.set], [[], 1]);
    clock.pass(10);
    assert.deepEqual(expired, [""]);
  });

  it("that never come have no timer", () => {
    using clock = new Clock();
    const { deadlines, expired, add } = recorded(clock);
    const never = add("never", Infinity);
    assert.equal(clock.timers.size, 0);
    add("once", 10);
    clock.pass(1_000_000);
    assert.deepEqual(expired, ["once"]);
    assert.equal(clock.timers.size, 0);
    deadlines.delete(never);
  });

  it("leave no timer when the last one is forgotten, so that the process may end, and begin anew", () => {
    using clock = new Clock();
    const { deadlines, expired, add } = recorded(clock);
    for (let round = 0; round < 3; round++) {
      const items = [add("a", 100), add("b", 50), add("c", 200)];
      for (const item of items) {
        assert.equal(clock.timers.size, 1);
        deadlines.delete(item);
      }
      assert.equal(clock.timers.size, 0);
      deadlines.delete(items[0]!);
    }
    add("later", 100);
    clock.pass(100);
    assert.deepEqual(expired, ["later"]);
  });

  it("that are forgotten are not noticed, and the others are in time", () => {
    using clock = new Clock();
    const { deadlines, times, expired, add } = recorded(clock);
    const soonest = add("soonest", 10);
    add("later", 100);
    const last = add("last", 300);
    deadlines.delete(soonest);
    deadlines.delete(last);
    clock.pass(1_000);
    assert.deepEqual([expired, times], [["later"], [1_100]]);
  });

  it("may be added when one is noticed", () => {
    using clock = new Clock();
    let left = 5;
    const { times, add } = recorded(clock, () => {
      if (left-- > 0) add("again", 20);
    });
    add("first", 20);
    clock.pass(1_000);
    assert.deepEqual(times, [1_020, 1_040, 1_060, 1_080, 1_100, 1_120]);
    assert.equal(clock.timers.size, 0);
  });

  it("may be forgotten when another is noticed, though they have come, too", () => {
    using clock = new Clock();
    const items: Item[] = [];
    const { deadlines, expired, add } = recorded(clock, () => deadlines.delete(items[1]!));
    items.push(add("first", 20), add("second", 20), add("third", 20));
    clock.pass(1_000);
    assert.deepEqual(expired, ["first", "third"]);
  });

  it("leave no timer when all others are forgotten as one is noticed", () => {
    using clock = new Clock();
    const { deadlines, expired, add } = recorded(clock, () => deadlines.delete(long));
    const long = add("long", 60_000);
    add("short", 20);
    clock.pass(20);
    assert.deepEqual(expired, ["short"]);
    assert.equal(clock.timers.size, 0);
  });
});

/** A caller's signal that knows how many listen. */
function caller() {
  const controller = new AbortController();
  const { signal } = controller;
  const listening = { count: 0 };
  const { addEventListener, removeEventListener } = signal;
  Object.assign(signal, {
    addEventListener(...parameters: Parameters<typeof addEventListener>) {
      listening.count++;
      addEventListener.apply(signal, parameters);
    },
    removeEventListener(...parameters: Parameters<typeof removeEventListener>) {
      listening.count--;
      removeEventListener.apply(signal, parameters);
    },
  });
  return { controller, signal, listening };
}

const late = () => new Error("late");
const never = () => new Promise<never>(() => {});

describe("a wait", () => {
  noticeRejections();

  /** Runs one, and fails unless nothing is left of it. */
  async function run<Value>(
    test: (waits: Waits, signal: AbortSignal, controller: AbortController, clock: Clock) => Promise<Value>,
  ): Promise<Value> {
    using clock = new Clock();
    const waits = new Waits();
    const { controller, signal, listening } = caller();
    try {
      return await test(waits, signal, controller, clock);
    } finally {
      assert.equal(waits.pending, 0);
      assert.equal(clock.timers.size, 0);
      assert.equal(listening.count, 0);
    }
  }

  it("gives what it waited for", async () => {
    const value = await run((waits, signal) => {
      const value = waits.run(100, signal, late, () => Promise.resolve("value"));
      assert.equal(waits.pending, 1);
      return value;
    });
    assert.equal(value, "value");
  });

  it("fails as what it waited for does", async () => {
    const error = new Error("failed");
    await assert.rejects(
      run((waits, signal) => waits.run(100, signal, late, () => Promise.reject(error))),
      error,
    );
  });

  it("fails when the time is up, and tells by its signal", async () => {
    const error = late();
    let source: SignalSource | undefined;
    const failed = run((waits, signal, _controller, clock) => {
      const value = waits.run(100, signal, () => error, (given) => {
        source = given;
        assert.equal(given.signal.aborted, false);
        return never();
      });
      clock.pass(99);
      assert.equal(waits.pending, 1);
      clock.pass(1);
      assert.equal(waits.pending, 0);
      return value;
    });
    await assert.rejects(failed, error);
    assert.equal(source?.signal.aborted, true);
    assert.equal(source?.signal.reason, error);
  });

  it("fails with the caller's reason, at once, and tells by its signal", async () => {
    const reason = { any: "reason" };
    const seen: unknown[] = [];
    const failed = run((waits, signal, controller) => {
      const value = waits.run(100, signal, late, (source) => {
        source.signal.addEventListener("abort", () => seen.push(source.signal.reason));
        return never();
      });
      controller.abort(reason);
      assert.deepEqual(seen, [reason]);
      assert.equal(waits.pending, 0);
      return value;
    });
    await assert.rejects(failed, (error) => error === reason);
  });

  it("does not begin when the caller's signal has aborted before", async () => {
    const reason = new Error("before");
    const failed = run((waits, signal, controller) => {
      controller.abort(reason);
      const value = waits.run(100, signal, late, () => assert.fail("It ran"));
      assert.equal(waits.pending, 0);
      return value;
    });
    await assert.rejects(failed, reason);
  });

  it("gives a signal that was asked for after the end the reason of the end", async () => {
    const reason = new Error("the caller's");
    let source: SignalSource | undefined;
    const failed = run((waits, signal, controller) => {
      const value = waits.run(100, signal, late, (given) => {
        source = given;
        return never();
      });
      controller.abort(reason);
      return value;
    });
    await assert.rejects(failed, reason);
    assert.equal(source?.signal.reason, reason);
    assert.equal(source?.signal, source?.signal);
  });

  it("never aborts the signal of what came to its end", async () => {
    let source: SignalSource | undefined;
    await run(async (waits, signal, controller, clock) => {
      await waits.run(100, signal, late, (given) => {
        source = given;
        return Promise.resolve();
      });
      controller.abort();
      clock.pass(1_000);
    });
    assert.equal(source?.signal.aborted, false);
  });

  it("passes over what comes after the end, be it a value or an error", async () => {
    for (const settle of ["resolve", "reject"] as const) {
      const outcome = deferred<string>();
      const failed = run((waits, signal, _controller, clock) => {
        const value = waits.run(100, signal, late, () => outcome.promise);
        clock.pass(100);
        if (settle === "resolve") outcome.resolve("too late");
        else outcome.reject(new Error("too late"));
        return value;
      });
      await assert.rejects(failed, /^Error: late$/);
    }
  });

  it("leaves no rejection unhandled when what it waits for fails because of the signal", async () => {
    const failed = run((waits, signal, controller) => {
      const value = waits.run(100, signal, late, ({ signal }) =>
        new Promise<never>((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason));
        }));
      controller.abort(new Error("the caller's"));
      return value;
    });
    await assert.rejects(failed, /the caller's/);
  });

  it("ends with the signal when that came before the outcome was told", async () => {
    const outcome = deferred<string>();
    const failed = run((waits, signal, controller) => {
      const value = waits.run(100, signal, late, () => outcome.promise);
      outcome.resolve("value");
      controller.abort(new Error("the caller's"));
      return value;
    });
    await assert.rejects(failed, /the caller's/);
  });

  it("that fails at once, by a throw, leaves nothing behind", async () => {
    const failed = run((waits, signal) =>
      waits.run(100, signal, late, () => {
        throw new Error("thrown");
      })
    );
    await assert.rejects(failed, /thrown/);
  });

  it("may be ended by the caller from within what it runs", async () => {
    const failed = run((waits, signal, controller) =>
      waits.run(100, signal, late, () => {
        controller.abort(new Error("from within"));
        return never();
      })
    );
    await assert.rejects(failed, /from within/);
  });

  for (const milliseconds of [0, -1, -1_000_000]) {
    it(`of ${milliseconds} ms gives what is there already, and else fails`, async () => {
      const value = await run((waits, signal) =>
        waits.run(milliseconds, signal, late, () => Promise.resolve(1))
      );
      assert.equal(value, 1);
      const failed = run((waits, signal, _controller, clock) => {
        const value = waits.run(milliseconds, signal, late, never);
        assert.equal(waits.pending, 1);
        clock.pass(0);
        return value;
      });
      await assert.rejects(failed, /^Error: late$/);
    });
  }

  it("needs no signal of the caller's", async () => {
    await run(async (waits, _signal, _controller, clock) => {
      assert.equal(await waits.run(100, undefined, late, () => Promise.resolve(1)), 1);
      const failed = waits.run(100, undefined, late, never);
      clock.pass(100);
      await assert.rejects(failed, /^Error: late$/);
    });
  });

  it("is counted until its end, and shares one timer and one caller's signal with all others", async () => {
    await run(async (waits, signal, controller, clock) => {
      const outcomes = Array.from({ length: 300 }, () => deferred<number>());
      const values = outcomes.map((outcome, index) =>
        waits.run(100 + index * 10, signal, late, () => outcome.promise)
      );
      const settled = Promise.allSettled(values);
      assert.equal(waits.pending, 300);
      assert.equal(clock.timers.size, 1);
      for (const [index, outcome] of outcomes.slice(0, 100).entries()) {
        if (index % 2 === 0) outcome.resolve(index);
        else outcome.reject(new Error("failed"));
      }
      await Promise.allSettled(values.slice(0, 100));
      assert.equal(waits.pending, 200);
      clock.pass(100 + 1_990);
      assert.equal(waits.pending, 100);
      assert.equal(clock.timers.size, 1);
      controller.abort(new Error("aborted"));
      assert.equal(waits.pending, 0);
      for (const outcome of outcomes) outcome.resolve(-1);
      const kinds = (await settled).map((one) => one.status === "fulfilled" ? "value" : one.reason.message);
      const expected = (index: number) => {
        if (index < 100) return index % 2 === 0 ? "value" : "failed";
        return index < 200 ? "late" : "aborted";
      };
      assert.deepEqual(kinds, kinds.map((_, index) => expected(index)));
    });
  });
});
