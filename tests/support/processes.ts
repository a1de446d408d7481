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

/** A process that runs until it is ended. */
export interface Daemon extends AsyncDisposable {
  /** Settles when the process has ended. */
  readonly ended: Promise<Deno.CommandStatus>;
  /** What it has written so far. */
  output(): string;
}

/** The environment variable with the id. A process started by one of ours has an id below that one's. */
const ID = "NUROPB_TEST_RUN";
const root = `${Deno.env.get(ID) ?? `${crypto.randomUUID()}/`}`;
let started = 0;

const daemons = new Set<Daemon>();
let stopped = false;

/** How long a process may take to end when asked to. */
const GRACE_MS = 10_000;

/**
 * Runs a command and kills it when the standard input closes, which happens when the runner closes it and also when
 * the runner itself is killed. Signals to all processes at once, such as Ctrl-C, are left to the runner.
 */
const GUARD = `
  trap '' INT TERM HUP
  exec 3<&0
  "$@" </dev/null 3<&- & command=$!
  (cat <&3 >/dev/null; kill -KILL $command) 2>/dev/null & guard=$!
  wait $command; code=$?
  kill -KILL $guard 2>/dev/null
  exit $code`;

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

/** Starts a command that is killed when it is disposed of, or when this process ends in whatever way. */
export function startDaemon(command: string, args: readonly string[], env: Record<string, string>): Daemon {
  refuseWhenStopped();
  const id = nextId();
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", GUARD, "sh", command, ...args],
    env: { ...env, [ID]: id },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const { text } = collect(child);
  const daemon: Daemon = {
    ended: child.status,
    output: text,
    async [Symbol.asyncDispose]() {
      await child.stdin.close().catch(() => {});
      await child.status;
      await endProcesses(id);
      daemons.delete(daemon);
    },
  };
  daemons.add(daemon);
  return daemon;
}

/** Ends everything that was started here, and lets nothing more be started. */
export async function stopAll(): Promise<void> {
  stopped = true;
  await Promise.all([...daemons].map((daemon) => daemon[Symbol.asyncDispose]()));
  await endProcesses(root);
}

function refuseWhenStopped(): void {
  if (stopped) throw new Error("The run was stopped");
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
