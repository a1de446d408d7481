/**
 * A bar chart of requests a second beside the limit program, as SVG that reads on light and dark pages.
 *
 * @module
 */
import type { Results } from "./results.ts";
import { ratio } from "./table.ts";

const LABELS = 210;
const PANEL = 210;
const BAR = 120;
const ROW = 24;
const TOP = 78;
const BOTTOM = 52;
const IN_FLIGHT = [1, 32, 256];
/** What everyone is compared with. */
const LIMIT = "limit node20";
const LABEL_OF: Readonly<Record<string, string>> = {
  ours: "@nuropb/mesh",
  limit: "limit",
  "limit-wire": "limit, NuroPb's wire",
  node20: "Node 20",
  node24: "Node 24",
  deno: "Deno",
  bun: "Bun",
  "nuropb-python": "nuropb (Python)",
};

const STYLE = `
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .page { fill: #ffffff; }
  .title { font-weight: 600; font-size: 14px; }
  .note { font-size: 11px; fill: #59636e; }
  .bar { fill: #8c959f; }
  .ours { fill: #0969da; }
  .limit { fill: #bf8700; }
  .mark { stroke: #59636e; stroke-dasharray: 2 3; }
  .value { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .page { fill: #0d1117; }
    .note { fill: #9198a1; }
    .bar { fill: #656c76; }
    .ours { fill: #4493f8; }
    .limit { fill: #d29922; }
    .mark { stroke: #9198a1; }
    .value { stroke: #0d1117; }
  }`;

/** The chart of a run that measured requests and the limit program on Node; undefined for any other. */
export function chartOf({ rows, date, machine, command }: Results): string | undefined {
  const requests = rows.filter(({ scenario }) => scenario === "requests");
  const limits = requests.filter(({ contestant }) => contestant === LIMIT);
  if (limits.length === 0) return undefined;
  const rateAt = (name: string, inFlight: number) =>
    requests.find(({ contestant, load }) => contestant === name && load.inFlight === inFlight);
  const names = [...new Set(requests.map(({ contestant }) => contestant))]
    .toSorted((one, other) => (rateAt(other, 256)?.median.rate ?? 0) - (rateAt(one, 256)?.median.rate ?? 0));

  const height = TOP + names.length * ROW + BOTTOM;
  const width = LABELS + IN_FLIGHT.length * PANEL + 10;
  const parts: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Requests a second of each library, beside the limit program on Node">`,
    `<style>${STYLE}\n</style>`,
    `<rect class="page" width="${width}" height="${height}" rx="6"/>`,
    text(16, 26, "Requests a second, beside the limit program on Node (= 1)", "title"),
    text(16, 44, "An echo of 60 bytes of JSON; caller and service in processes of their own", "note"),
  ];
  names.forEach((name, row) => parts.push(text(16, TOP + row * ROW + 15, labelOf(name))));
  IN_FLIGHT.forEach((inFlight, panel) => {
    const left = LABELS + panel * PANEL;
    parts.push(text(left, TOP - 12, `${inFlight} in flight`, "title"));
    const limit = limits.find(({ load }) => load.inFlight === inFlight);
    const ratios = names.map((name) => {
      const row = rateAt(name, inFlight);
      return row && limit && { ratio: ratio(row, limit), rate: row.median.rate };
    });
    const scale = BAR / Math.max(1, ...ratios.map((each) => each?.ratio ?? 0));
    const mark = left + scale;
    parts.push(
      `<line class="mark" x1="${mark}" x2="${mark}" y1="${TOP - 2}" y2="${TOP + names.length * ROW}"/>`,
    );
    ratios.forEach((each, row) => {
      if (each === undefined) return;
      const y = TOP + row * ROW;
      const kind = /^(ours|limit)/.exec(names[row] ?? "")?.[0] ?? "";
      const length = Math.max(1, each.ratio * scale);
      parts.push(
        `<rect class="bar ${kind}" x="${left}" y="${y + 3}" width="${length.toFixed(1)}" height="${
          ROW - 8
        }" rx="2"/>`,
        text(left + length + 5, y + 15, `${each.ratio.toFixed(2)} · ${thousands(each.rate)}`, "value"),
      );
    });
  });
  parts.push(
    text(16, height - 28, `${machine.cores} cores for all processes, ${machine.processor}`, "note"),
    text(16, height - 12, `${date.slice(0, 10)}, ${command}`, "note"),
    "</svg>",
  );
  return `${parts.join("\n")}\n`;
}

function labelOf(name: string): string {
  return name.split(" ").map((part) => LABEL_OF[part] ?? part).join(", ");
}

function text(x: number, y: number, content: string, kind = ""): string {
  const escaped = content.replace(/[<>&]/g, (character) => `&#${character.codePointAt(0)};`);
  return `<text x="${x.toFixed(1)}" y="${y}"${kind === "" ? "" : ` class="${kind}"`}>${escaped}</text>`;
}

function thousands(rate: number): string {
  return Math.round(rate).toString().replace(/\B(?=(\d{3})+$)/g, " ");
}
