import assert from "node:assert/strict";
import { describe, it } from "@std/testing/bdd";
import { matchesTopic, topicWords } from "../../src/transport/topic_pattern.ts";

const matches = (pattern: string, topic: string) => matchesTopic(topicWords(pattern), topicWords(topic));

/** What AMQP says, word for word, and exponential. */
function naively(pattern: readonly string[], topic: readonly string[]): boolean {
  const [word, ...rest] = pattern;
  if (word === undefined) return topic.length === 0;
  if (word === "#") return naively(rest, topic) || (topic.length > 0 && naively(pattern, topic.slice(1)));
  return topic.length > 0 && (word === "*" || word === topic[0]) && naively(rest, topic.slice(1));
}

/** Numbers that are the same in every run. */
function randomly(seed: number): (below: number) => number {
  return (below) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor(seed / 2 ** 32 * below);
  };
}

/** Every sequence of at most `longest` of the words. */
function sequences(words: readonly string[], longest: number): string[][] {
  if (longest === 0) return [[]];
  const shorter = sequences(words, longest - 1);
  const grown = shorter
    .filter((sequence) => sequence.length === longest - 1)
    .flatMap((sequence) => words.map((word) => [...sequence, word]));
  return [...shorter, ...grown];
}

describe("a topic pattern", () => {
  const cases: readonly [pattern: string, topic: string, expected: boolean][] = [
    ["orders.created", "orders.created", true],
    ["orders.created", "orders.Created", false],
    ["orders.created", "orders", false],
    ["orders", "orders.created", false],
    ["orders.*", "orders.created", true],
    ["orders.*", "orders", false],
    ["orders.*", "orders.eu.created", false],
    ["orders.*", "orders.", true],
    ["*.*", "orders.created", true],
    ["*", "", false],
    ["#", "", true],
    ["#", "orders.eu.created", true],
    ["orders.#", "orders", true],
    ["orders.#", "orders.eu.created", true],
    ["orders.#", "order", false],
    ["#.created", "created", true],
    ["#.created", "orders.eu.created", true],
    ["#.created", "orders.created.eu", false],
    ["orders.#.created", "orders.created", true],
    ["orders.#.created", "orders.created.eu.created", true],
    ["#.*", "", false],
    ["#.*", "orders", true],
    ["*.#.*", "orders", false],
    ["#.#", "", true],
    ["#.a.#.b.#", "x.a.y.b.z", true],
    ["#.a.#.b.#", "x.b.y.a.z", false],
    ["", "", true],
    ["", "orders", false],
    ["a..b", "a..b", true],
    ["a.*.b", "a..b", true],
    ["a#", "ab", false],
    ["a*", "ab", false],
    ["a#", "a#", true],
    ["a.b", "a.#", false],
  ];
  for (const [pattern, topic, expected] of cases) {
    it(`'${pattern}' ${expected ? "takes" : "does not take"} '${topic}'`, () => {
      assert.equal(matches(pattern, topic), expected);
    });
  }

  it("agrees with the definition for all short patterns and topics", () => {
    const topics = sequences(["a", "b"], 5);
    for (const pattern of sequences(["a", "b", "*", "#"], 4)) {
      for (const topic of topics) {
        const expected = naively(pattern, topic);
        assert.equal(matchesTopic(pattern, topic), expected, `${pattern.join(".")} for ${topic.join(".")}`);
      }
    }
  });

  it("agrees with the definition for longer ones at random", () => {
    const random = randomly(42);
    const draw = (words: readonly string[], longest: number) =>
      Array.from({ length: random(longest + 1) }, () => words[random(words.length)]!);
    let taken = 0;
    for (let round = 0; round < 20_000; round++) {
      const pattern = draw(["a", "b", "*", "#", "#"], 9);
      const topic = draw(["a", "b", "c"], 12);
      const expected = naively(pattern, topic);
      if (expected) taken++;
      assert.equal(matchesTopic(pattern, topic), expected, `${pattern.join(".")} for ${topic.join(".")}`);
    }
    assert.ok(taken > 2_000 && taken < 18_000, `${taken} of 20000 taken: neither answer may be rare`);
  });

  it("takes no exponential time for many hashes", () => {
    let steps = 0;
    const topic = new Proxy(new Array<string>(120).fill("a"), {
      get: (words, key) => (steps++, Reflect.get(words, key)),
    });
    const pattern = topicWords(`${"#.a.".repeat(40)}b`);
    assert.equal(matchesTopic(pattern, topic), false);
    assert.ok(steps < 4 * pattern.length * topic.length, `${steps} looks at a word`);
  });
});
