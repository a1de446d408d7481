/**
 * Finds secrets in what was printed, in whichever form they may have got there.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** What must not be seen, by what it is. */
export type Secrets = Readonly<Record<string, string | Uint8Array>>;

/** Fewer characters could be there by chance. */
const SHORTEST = 12;

/** The secrets that a text shows, with their forms. */
export function secretsIn(text: string, secrets: Secrets): string[] {
  // Bytes come in columns, and base64 in lines.
  const dense = text.replaceAll(/\s+/g, "");
  return Object.entries(secrets).flatMap(([what, secret]) =>
    [...formsOf(secret)]
      .filter(([, form]) => text.includes(form) || dense.includes(form))
      .map(([name]) => `${what} as ${name}`)
  );
}

function* formsOf(secret: string | Uint8Array): Generator<[name: string, form: string]> {
  const bytes = Buffer.from(secret);
  if (typeof secret === "string") {
    yield ["text", secret];
    yield ["text in a url", encodeURIComponent(secret)];
    yield ["text in JSON", JSON.stringify(secret).slice(1, -1)];
  }
  // What comes before it shifts its base64, and its ends are mixed with what is beside it.
  for (const shift of [0, 1, 2]) {
    const padded = Buffer.concat([Buffer.alloc(shift), bytes]);
    for (const encoding of ["base64", "base64url"] as const) {
      const form = padded.toString(encoding).replace(/=+$/, "").slice(shift === 0 ? 0 : 4, -1);
      if (form.length >= SHORTEST) yield [encoding, form];
    }
  }
  yield ["hexadecimal digits", bytes.toString("hex")];
  yield ["hexadecimal digits", bytes.toString("hex").toUpperCase()];
  yield ["numbers", bytes.join(",")];
}
