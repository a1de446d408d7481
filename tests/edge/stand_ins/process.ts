/**
 * Stands in for `node:process` where there is no Node.
 *
 * @module
 */

/** What the runner tells the tests, filled in before a test file is loaded. */
const env: Record<string, string> = {};

export default { env };
