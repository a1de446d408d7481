/**
 * The README's table of what each runtime can do: behind each cell there are tests.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, it } from "@std/testing/bdd";
import { root } from "./bundle.ts";
import { LEFT_OUT } from "./conformance.ts";

/** A file below `tests/`, and the sentence of a test in it. */
type Proof = readonly [file: string, sentence: string];

/** What a cell says, and what shows that it is so. */
interface Cell {
  readonly says: string;
  readonly proofs: readonly Proof[];
}

const cell = (says: string, ...proofs: readonly Proof[]): Cell => ({ says, proofs });

/** Tests of the conformance suite run on Deno, Bun, all Nodes, in workerd and in Chromium. */
const conformance = (name: string, sentence: string): Proof => [`conformance/${name}_test.ts`, sentence];
const worker = (sentence: string): Proof => ["edge/workers_deno_test.ts", sentence];
const page = (sentence: string): Proof => ["edge/browser_deno_test.ts", sentence];
/** On Deno, Bun and all Nodes. */
const webSocket = (sentence: string): Proof => ["edge/websocket_test.ts", sentence];

const REQUEST = conformance("request", "waits for a method that returns a promise");
const MESSAGES = [
  REQUEST,
  conformance("command", "runs the method with its params, and resolves to nothing"),
  conformance("subscribe", "gives every subscriber every event, on one mesh and on several"),
];
const ENCRYPTED = conformance(
  "encryption",
  "makes of requests what nobody can read, and they stay so when they expire",
);
const SHARED = conformance("sharing", "lose nothing when one of them closes amid the work");
const MEMORY = conformance("connecting", "lead to one broker for each name");
const AUTHORITY: Proof = ["security/certificate_test.ts", "is taken when its authority is one of several"];
const CERTIFICATE: Proof = [
  "security/client_certificate_test.ts",
  "lets in who has one, as the account in the url (${host})",
];

const COLUMNS = ["Deno 2, Bun 1.4, Node 22 and 24", "Node 20.16", "Cloudflare Workers", "browsers"];
const EDGE = ["Cloudflare Workers", "browsers"];

const ROWS: Readonly<Record<string, readonly Cell[]>> = {
  "call, publish, subscribe": [
    cell("yes", ...MESSAGES),
    cell("yes", ...MESSAGES),
    cell("yes", ...MESSAGES, worker("answers a request with what a service answers")),
    cell(
      "yes",
      ...MESSAGES,
      page("asks a service, sends it commands, and has its errors"),
      page("publishes events, and gets those of others"),
    ),
  ],
  "encrypted messages": [
    cell("yes", ENCRYPTED),
    cell("yes", ENCRYPTED),
    cell("yes", ENCRYPTED),
    cell("yes", ENCRYPTED, page("encrypts what a service wants encrypted")),
  ],
  "host a service": [
    cell("yes", SHARED),
    cell("yes", SHARED),
    cell(
      "while a request or a Durable Object lives",
      SHARED,
      worker("hosts a service for as long as a Durable Object lives, beyond the request that began it"),
      worker("leaves the service to its other instances when the object goes, held messages and all"),
    ),
    cell(
      "while the page is open",
      page("hosts a service while it is open, and leaves it to other instances when it is closed"),
    ),
  ],
  "`memory:`": [cell("yes", MEMORY), cell("yes", MEMORY), cell("yes", MEMORY), cell("yes", MEMORY)],
  "`amqp:`, `amqps:`": [
    cell("yes", REQUEST, AUTHORITY),
    cell("yes", REQUEST, AUTHORITY),
    cell("yes", REQUEST, worker("speaks TLS with a broker whose certificate it trusts, and with no other")),
    cell("no: the error says to use a relay", page("cannot use TCP, and is told what to use")),
  ],
  "`tls` with certificates of yours": [
    cell("yes", AUTHORITY, CERTIFICATE),
    cell("yes", AUTHORITY, CERTIFICATE),
    cell("refused", worker("refuses certificates of yours rather than leave them out")),
    cell("refused", page("takes no certificates of yours")),
  ],
  "`ws:`, `wss:`": [
    cell(
      "yes",
      webSocket("asks a service that is on TCP, and sends it commands"),
      webSocket(
        "is encrypted by wss:, with a relay whose certificate the runtime trusts and with no other",
      ),
    ),
    cell("no: the error says which Node has it", webSocket("says so, and which Node has them")),
    cell(
      "yes",
      worker("goes over a WebSocket relay too"),
      worker("goes over wss: to a relay whose certificate it trusts, and to no other"),
    ),
    cell(
      "yes",
      ...MESSAGES,
      page("goes over wss: to a relay whose certificate the browser trusts, and to no other"),
    ),
  ],
};

describe("the README's table of runtimes", () => {
  it("has the cells that are known here, each with what is shown of it", async () => {
    const readme = await readFile(`${root}README.md`, "utf8");
    const [, table = ""] = /## Runtimes\n\n((?:\|.*\n)+)/.exec(readme) ?? [];
    const [head, , ...rows] = table.trimEnd().split("\n")
      .map((line) => line.split("|").slice(1, -1).map((text) => text.trim()));
    assert.deepEqual(head, ["", ...COLUMNS]);
    assert.deepEqual(
      rows,
      Object.entries(ROWS).map(([row, cells]) => [row, ...cells.map(({ says }) => says)]),
    );
  });

  for (const [row, cells] of Object.entries(ROWS)) {
    it(`has tests behind each cell of ${row}`, async () => {
      for (const [index, { says, proofs }] of cells.entries()) {
        const column = COLUMNS[index] ?? "";
        assert.notEqual(proofs.length, 0, `${column}: ${says}`);
        for (const [file, sentence] of proofs) {
          const source = await readFile(`${root}tests/${file}`, "utf8");
          const isThere = source.includes(`it("${sentence}"`) || source.includes(`it(\`${sentence}\``);
          assert.ok(isThere, `${file} has no test that says: ${sentence}`);
          const runsThere = !EDGE.includes(column) || !(file.replace("conformance/", "") in LEFT_OUT);
          assert.ok(runsThere, `${file} does not run in ${column}`);
        }
      }
    });
  }
});
