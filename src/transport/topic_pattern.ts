/**
 * Topic patterns of AMQP: words between dots, `*` for exactly one word, `#` for any number of them.
 *
 * @module
 */

/** The words of a topic or pattern. The empty string has none, as RabbitMQ counts. */
export function topicWords(topic: string): readonly string[] {
  return topic === "" ? [] : topic.split(".");
}

/**
 * Whether a pattern takes a topic, both as words. Only the last `#` is ever tried again, since an earlier one can
 * leave to it whatever it would take itself: the work is at most the product of both lengths.
 *
 * @example
 * ```ts
 * import { matchesTopic, topicWords } from "./topic_pattern.ts";
 *
 * console.log(matchesTopic(topicWords("orders.#"), topicWords("orders.eu.created"))); // true
 * ```
 */
export function matchesTopic(pattern: readonly string[], topic: readonly string[]): boolean {
  let inPattern = 0;
  let inTopic = 0;
  let lastHash = -1;
  let takenByHash = 0;
  while (inTopic < topic.length) {
    const word = pattern[inPattern];
    if (word === "#") {
      lastHash = inPattern++;
      takenByHash = inTopic;
    } else if (word === "*" || word === topic[inTopic]) {
      inPattern++;
      inTopic++;
    } else if (lastHash >= 0) {
      inPattern = lastHash + 1;
      inTopic = ++takenByHash;
    } else {
      return false;
    }
  }
  while (pattern[inPattern] === "#") inPattern++;
  return inPattern === pattern.length;
}
