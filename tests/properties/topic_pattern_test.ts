import assert from "node:assert/strict";
import fc from "fast-check";
import { describe, it } from "@std/testing/bdd";
import { matchesTopic, topicWords } from "../../src/transport/topic_pattern.ts";
import { check } from "./property.ts";

/** What AMQP says of patterns, word by word. */
function reference(pattern: readonly string[], topic: readonly string[]): boolean {
  const [word, ...rest] = pattern;
  if (word === undefined) return topic.length === 0;
  if (word === "#") return reference(rest, topic) || (topic.length > 0 && reference(pattern, topic.slice(1)));
  return topic.length > 0 && (word === "*" || word === topic[0]) && reference(rest, topic.slice(1));
}

/** Few words, so that they often meet; the empty one is a word, too. */
const words = fc.array(fc.constantFrom("a", "b", ""), { maxLength: 7 });
const patterns = fc.array(fc.constantFrom("a", "b", "", "*", "#", "#"), { maxLength: 7 });

describe("a topic pattern", () => {
  it("takes the topics that AMQP says it takes", () => {
    check(
      15_000,
      fc.property(patterns, words, (pattern, topic) => {
        assert.equal(matchesTopic(pattern, topic), reference(pattern, topic));
      }),
    );
  });

  it("takes the topics that AMQP says it takes, whatever the words are", () => {
    const texts = fc.oneof(fc.string({ maxLength: 3 }), fc.constantFrom("#.*", "a.#.#.b", "..", "*", "#"));
    check(
      5_000,
      fc.property(texts, texts, (pattern, topic) => {
        const [patternWords, words] = [topicWords(pattern), topicWords(topic)];
        assert.equal(matchesTopic(patternWords, words), reference(patternWords, words));
      }),
    );
  });

  it("is soon done with the longest of topics", () => {
    const long = fc.array(fc.constantFrom("#", "*", "a", "b"), {
      minLength: 100,
      maxLength: 128,
      size: "max",
    });
    const topics = fc.array(fc.constantFrom("a", "b"), { minLength: 100, maxLength: 128, size: "max" });
    const started = performance.now();
    check(1_000, fc.property(long, topics, (pattern, topic) => void matchesTopic(pattern, topic)));
    assert.ok(performance.now() - started < 20_000);
  });
});
