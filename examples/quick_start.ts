/**
 * A service and its client in one file: a request, a command, an event and an error.
 *
 * Runs on an embedded broker, or on a RabbitMQ:
 *
 *     npx -y deno task demo
 *     NUROPB_URL=amqp://guest:guest@localhost:5672/nuropb npx -y deno task demo
 */
import { connect, type Context, NuropbException, serve } from "@nuropb/mesh";
import process from "node:process";

const url = process.env["NUROPB_URL"] ?? "memory:";

class QuickExample {
  hello({ name }: { name: string }, ctx: Context) {
    ctx.emit("greetings.sent", { name });
    return `hello ${name}`;
  }

  note({ text }: { text: string }) {
    console.log(`the service noted "${text}"`);
  }

  divide({ a, b }: { a: number; b: number }) {
    if (b === 0) throw new RangeError("cannot divide by zero");
    return a / b;
  }
}

const service = await serve(new QuickExample(), { url });
const mesh = await connect(url);
console.log(`${service.name} runs on ${url.replace(/\/\/.*@/, "//")}`);

const greetings = mesh.subscribe<{ name: string }>("greetings.*");
await greetings.ready;

const quick = mesh.service<QuickExample>("quick-example");
console.log(`a request:  hello({ name: "Ann" }) answers "${await quick.hello({ name: "Ann" })}"`);

for await (const { topic, event } of greetings) {
  console.log(`an event:   ${topic} ${JSON.stringify(event)}`);
  break;
}

console.log("a command:  the broker has it, nobody answers");
await mesh.command("quick-example", "note", { text: "buy milk" });

try {
  await quick.divide({ a: 1, b: 0 });
} catch (error) {
  if (!(error instanceof NuropbException)) throw error;
  console.log(`an error:   ${error.remote?.name}: ${error.description}`);
}

await mesh.close();
await service.close();
console.log("closed");
