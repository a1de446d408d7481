/**
 * Child processes of the test runner. Each carries an id in its environment, by which it is found and ended later,
 * and so are the processes that it has started itself.
 *
 * @module
 */

/** How a command went. */
export interface Finished {
  readonly code: number;
  /** What it wrote to either of its outputs. */
  readonly output: string;
  readonly timedOut: boolean;
}

/** How to run a command. */
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Record<string, string>;
  /** @default 600_000 */
  readonly timeoutMs?: number;
}

/** The environment variable with the id. A process started by one of ours has an id below that one's. */
const ID = "NUROPB_TEST_RUN";
const root = `${Deno.env.get(ID) ?? `${crypto.randomUUID()}/`}`;
let started = 0;

/** How long a process may take to end when asked to. */
const GRACE_MS = 10_000;

/** Runs a command to its end, and ends what it leaves behind. */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const { cwd, env, timeoutMs = 600_000 } = options;
  const id = nextId();
  const child = new Deno.Command(command, {
    args: [...args],
    env: { NO_COLOR: "1", ...env, [ID]: id },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    ...(cwd === undefined ? {} : { cwd }),
  }).spawn();
  const { text, closed } = collect(child);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    void endProcesses(id);
  }, timeoutMs);
  const { code } = await child.status;
  clearTimeout(timer);
  // Before the output is awaited, since what is left may hold it open.
  await endProcesses(id);
  await closed;
  return { code, output: text(), timedOut };
}

/** Runs a command, and throws with its output unless it succeeds. */
export async function must(command: string, args: readonly string[], options?: RunOptions): Promise<string> {
  const { code, output, timedOut } = await run(command, args, options);
  if (code === 0) return output;
  const what = timedOut ? "was not done in time" : `failed with code ${code}`;
  throw new Error(`${[command, ...args].join(" ").slice(0, 200)} ${what}:\n${output.trim()}`);
}

/** Ends everything that was started here. */
export async function stopAll(): Promise<void> {
  await endProcesses(root);
}

/** Ends the processes with this id, and those below it. */
async function endProcesses(id: string): Promise<void> {
  const signals: Deno.Signal[] = ["SIGTERM", "SIGKILL"];
  for (const signal of signals) {
    const deadline = Date.now() + GRACE_MS;
    for (const pid of find(id)) signalTo(pid, signal);
    while (find(id).length > 0) {
      if (Date.now() > deadline) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

function nextId(): string {
  return `${root}${++started}/`;
}

/** The processes that carry this id, where the system tells it (Linux does). */
function find(id: string): number[] {
  const found: number[] = [];
  for (const { name } of list("/proc")) {
    if (/^\d+$/.test(name) && environmentOf(name).includes(`\0${ID}=${id}`)) found.push(Number(name));
  }
  return found;
}

function list(directory: string): Deno.DirEntry[] {
  try {
    return [...Deno.readDirSync(directory)];
  } catch {
    return [];
  }
}

function environmentOf(pid: string): string {
  try {
    return `\0${Deno.readTextFileSync(`/proc/${pid}/environ`)}`;
  } catch {
    // It has ended meanwhile, or belongs to someone else.
    return "";
  }
}

function signalTo(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}

function collect(child: Deno.ChildProcess): { text: () => string; closed: Promise<unknown> } {
  let text = "";
  const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    for await (const chunk of stream.pipeThrough(new TextDecoderStream())) text += chunk;
  };
  return { text: () => text, closed: Promise.all([read(child.stdout), read(child.stderr)]) };
}
