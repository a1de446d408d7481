import assert from "node:assert/strict";
import {
  after,
  afterAll,
  afterEach,
  before,
  beforeAll,
  beforeEach,
  describe,
  it,
  test,
} from "@std/testing/bdd";

describe("bdd", () => {
  const calls: string[] = [];
  const call = (name: string) => () => void calls.push(name);

  describe("hooks", () => {
    beforeAll(call("outer beforeAll"));
    beforeEach(call("outer beforeEach"));
    afterEach(call("outer afterEach"));
    afterAll(call("outer afterAll"));

    it("run around a test", () => {
      assert.deepEqual(calls, ["outer beforeAll", "outer beforeEach"]);
    });

    describe("of an inner group", () => {
      before(async () => {
        await Promise.resolve();
        calls.push("inner before");
      });
      beforeEach(call("inner beforeEach"));
      afterEach(call("inner afterEach"));
      after(call("inner after"));

      it("run within the outer ones", () => {
        assert.deepEqual(calls.slice(2), [
          "outer afterEach",
          "inner before",
          "outer beforeEach",
          "inner beforeEach",
        ]);
      });

      test("run again for the next test, but for the first", () => {
        assert.deepEqual(calls.slice(6), [
          "inner afterEach",
          "outer afterEach",
          "outer beforeEach",
          "inner beforeEach",
        ]);
      });
    });

    it("of an inner group end with it", () => {
      assert.deepEqual(calls.slice(10), [
        "inner afterEach",
        "outer afterEach",
        "inner after",
        "outer beforeEach",
      ]);
    });
  });

  it("runs afterAll after the last test of a group", () => {
    assert.deepEqual(calls.slice(14), ["outer afterEach", "outer afterAll"]);
  });

  it("refuses a hook without a group, as Bun may run many files in one process", () => {
    // Groups are gone by the time that tests run.
    assert.throws(() => beforeEach(() => {}), TypeError);
  });

  it("refuses an asynchronous group, whose tests would come too late", () => {
    const body: () => unknown = async () => {};
    assert.throws(() => describe("asynchronous", body as () => void), TypeError);
  });
});
