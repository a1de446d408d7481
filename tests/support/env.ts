/**
 * What the test runner tells the tests through the environment, on every runtime. Run without the runner, a test
 * finds no broker and no Python.
 *
 * @module
 */
import process from "node:process";

/** Where a suite runs. */
export interface TestUrl {
  readonly name: "memory" | "rabbitmq";
  readonly url: string;
}

/** A command and its arguments. */
export interface ScriptCommand {
  readonly command: string;
  readonly args: readonly string[];
}

/** The tools that tests may start. */
export type Tool = "deno" | "bun" | "node" | "npm" | "websockify" | "chromium";

/** The runtime under test: `deno`, `bun`, `node20`… */
export function runtime(): string {
  return variable("NUROPB_TEST_RUNTIME") ?? "unknown";
}

/** An empty virtual host on a RabbitMQ, which belongs to this test file alone; undefined where there is none. */
export function rabbitmqUrl(): string | undefined {
  return variable("NUROPB_TEST_URL");
}

/** RabbitMQ's management API, without a trailing slash; user and password are `guest`. */
export function managementUrl(): string | undefined {
  return variable("NUROPB_TEST_MANAGEMENT_URL");
}

/** A Python with NuroPb 0.1.8; undefined where there is none. */
export function python(): string | undefined {
  return variable("NUROPB_TEST_PYTHON");
}

/** The folder for the cells of the parity table; undefined where nobody gathers them. */
export function parityFolder(): string | undefined {
  return variable("NUROPB_TEST_PARITY");
}

/** The packed npm package. */
export function tarball(): string | undefined {
  return variable("NUROPB_TEST_TARBALL");
}

/** The path of a tool; undefined where it is not on this machine. */
export function tool(name: Tool): string | undefined {
  return variable(`NUROPB_TEST_${name.toUpperCase()}`);
}

/** The transports to run a suite on: `memory:` always, RabbitMQ where there is one. */
export function urls(): TestUrl[] {
  const memory: TestUrl = { name: "memory", url: `memory:${uniqueName("mesh")}` };
  const url = rabbitmqUrl();
  return url === undefined ? [memory] : [memory, { name: "rabbitmq", url }];
}

/** A name that nobody else uses, for a service, a queue or a mesh. */
export function uniqueName(prefix: string): string {
  return `${prefix}-${crypto.randomUUID().slice(0, 8)}`;
}

/**
 * The command that runs a script on the runtime under test, for tests with several processes.
 *
 * @param path From `tests/`; it must end in `_script.ts`, by which the runner knows what to build for Node.
 */
export function script(path: string): ScriptCommand {
  const command = process.execPath;
  const built = variable("NUROPB_TEST_BUILT");
  if (built !== undefined) {
    return { command, args: ["--enable-source-maps", `${built}/tests/${path.replace(/\.ts$/, ".js")}`] };
  }
  const source = decodeURIComponent(new URL(`../${path}`, import.meta.url).pathname);
  return { command, args: "Deno" in globalThis ? ["run", "-A", source] : [source] };
}

function variable(name: string): string | undefined {
  const value = process.env[name];
  return value === "" ? undefined : value;
}
