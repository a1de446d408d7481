/**
 * A service, or a caller, in a process of its own, which does as it is told on its standard input and tells on its
 * standard output what memory it holds then.
 *
 * @module
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { connect, serve } from "@nuropb/mesh";
import { measureMemory } from "./memory.ts";

const IN_FLIGHT = 256;
const NAME = "memory";

/** What a process can be. */
export const roles = ["service", "caller"] as const;

export type Role = typeof roles[number];

/** Runs until its standard input ends. Each line is a count of requests, of which a service makes none. */
export async function runRole(role: Role, url: string): Promise<void> {
  const opened = role === "service" ? await openService(url) : await openCaller(url);
  say({});
  for await (const line of createInterface({ input: process.stdin })) {
    await opened.send(Number(line));
    say(await measureMemory());
  }
  await opened.close();
}

interface Opened {
  send(count: number): Promise<void>;
  close(): Promise<void>;
}

async function openService(url: string): Promise<Opened> {
  const service = await serve({ add: ({ a, b }: { a: number; b: number }) => a + b }, {
    url,
    name: NAME,
    concurrency: IN_FLIGHT,
  });
  return { send: () => Promise.resolve(), close: () => service.close() };
}

async function openCaller(url: string): Promise<Opened> {
  const mesh = await connect(url);
  const send = async (count: number) => {
    let sent = 0;
    const repeat = async () => {
      for (let a = sent++; a < count; a = sent++) {
        const sum = await mesh.request(NAME, "add", { a, b: 1 });
        if (sum !== a + 1) throw new Error(`${a} + 1 is ${sum}`);
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, repeat));
  };
  return { send, close: () => mesh.close() };
}

function say(answer: object): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
