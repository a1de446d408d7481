/**
 * Reports of tests in JUnit's format.
 *
 * @module
 */

/** One test. */
export interface TestCase {
  readonly name: string;
  readonly outcome: "passed" | "failed" | "skipped";
  /** What went wrong, with the stack. */
  readonly detail: string;
}

const ATTRIBUTES = String.raw`((?:\s+[\w:-]+="[^"]*")*)\s*`;
const CASE = new RegExp(String.raw`<testcase${ATTRIBUTES}(?:/>|>([\s\S]*?)</testcase>)`, "g");
const FAILURE = new RegExp(String.raw`<(?:failure|error)${ATTRIBUTES}(?:/>|>([\s\S]*?)</(?:failure|error)>)`);

/** The tests of a report in JUnit's format. */
export function parseJunit(xml: string): TestCase[] {
  return [...xml.matchAll(CASE)].map(([, attributes = "", body = ""]) => {
    const name = attribute(attributes, "name");
    const failure = FAILURE.exec(body);
    if (failure !== null) {
      const [, failureAttributes = "", text = ""] = failure;
      const detail = text.trim() === "" ? attribute(failureAttributes, "message") : decode(text);
      return { name, outcome: "failed", detail };
    }
    return { name, outcome: /<skipped\b/.test(body) ? "skipped" : "passed", detail: "" };
  });
}

/** One test of such a report. */
export function formatCase({ name, outcome, detail }: TestCase): string {
  const body = { passed: "", skipped: "<skipped/>", failed: `<failure>${encode(detail)}</failure>` }[outcome];
  return `<testcase name="${encode(name)}">${body}</testcase>\n`;
}

function attribute(attributes: string, name: string): string {
  return decode(new RegExp(`\\s${name}="([^"]*)"`).exec(attributes)?.[1] ?? "");
}

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

function decode(text: string): string {
  return text.replace(
    /&(?:#x([\da-f]+)|#(\d+)|(\w+));/gi,
    (whole, hex?: string, decimal?: string, name = "") => {
      if (hex !== undefined) return String.fromCodePoint(parseInt(hex, 16));
      if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
      return ENTITIES[name] ?? whole;
    },
  );
}

function encode(text: string): string {
  return text.replace(/[<>&"]/g, (character) => `&#${character.codePointAt(0)};`);
}
