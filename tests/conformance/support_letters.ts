/**
 * How the conformance tests read dead letters: those of one service, as its other tests leave some behind too.
 *
 * @module
 */
import type { DeadLetter, DeliveryStream, Mesh } from "@nuropb/mesh";
import { uniqueName } from "../support/env.ts";
import { within } from "./stage.ts";

/** The next dead letter of a service. Those of others are dropped. */
export async function nextLetter(
  letters: DeliveryStream<DeadLetter>,
  service: string,
): Promise<DeadLetter> {
  for (;;) {
    const next = await within(letters.next());
    if (next.done) throw new Error("The stream of dead letters ended");
    if (next.value.service === service) return next.value;
    next.value.discard();
  }
}

/**
 * Takes out all dead letters of a service that are there by now. For that the service must run, and handle one
 * message at a time: the letter of a last command, which it does not know, comes after all others.
 */
export async function drain(mesh: Mesh, service: string): Promise<DeadLetter[]> {
  const last = uniqueName("last");
  await mesh.command(service, last, {}, { encrypted: false });
  const drained: DeadLetter[] = [];
  const letters = mesh.deadLetters();
  try {
    for (;;) {
      const letter = await nextLetter(letters, service);
      letter.discard();
      if (textOf(letter).includes(last)) return drained;
      drained.push(letter);
    }
  } finally {
    await letters.close();
  }
}

/** A letter's body as text. */
export function textOf({ message }: DeadLetter): string {
  return new TextDecoder().decode(message.body);
}

/** What a letter's plain body says. */
export function bodyOf(letter: DeadLetter): Record<string, unknown> {
  return JSON.parse(textOf(letter)) as Record<string, unknown>;
}
