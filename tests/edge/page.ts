/**
 * What the tests do within a page: one mesh, by a function for each step.
 *
 * @module
 */
import { connect, type ConnectOptions, type Mesh, NuropbException, serve } from "@nuropb/mesh";

let mesh: Mesh;
const states: string[] = [];
let lost: { at: number; reason: string } | null = null;
const events: unknown[] = [];

/** The steps; each is called by its name, with JSON. */
export const steps = {
  /** Opens the mesh, and gives the error where that fails. */
  async open(url: string, options: ConnectOptions = {}): Promise<{ code: string; message: string } | null> {
    try {
      mesh = await connect(url, options);
    } catch (error) {
      if (!(error instanceof NuropbException)) throw error;
      return { code: error.code, message: error.message };
    }
    mesh.addEventListener("status", ({ detail }) => {
      states.push(detail.state);
      if (detail.state === "waiting") lost = { at: Date.now(), reason: detail.error.message };
    });
    return null;
  },
  request: (service: string, method: string, params: object, encrypted?: boolean): Promise<unknown> =>
    mesh.request(service, method, params, encrypted === undefined ? {} : { encrypted }),
  command: (service: string, method: string, params: object): Promise<void> =>
    mesh.command(service, method, params),
  publish: (topic: string, event: unknown): Promise<void> => mesh.publish(topic, event),
  /** From then on events are kept. */
  async subscribe(topic: string): Promise<void> {
    const subscription = mesh.subscribe(topic);
    void (async () => {
      for await (const { event } of subscription) events.push(event);
    })();
    await subscription.ready;
  },
  /** Hosts a service whose `hello` tells that it is a page's. */
  async host(url: string, name: string): Promise<void> {
    await serve({ hello: () => "hello from a page" }, { url, name });
  },
  /** Sends the next dead letter back to where it was. */
  async replay(): Promise<void> {
    for await (const letter of mesh.deadLetters()) {
      await letter.replay();
      break;
    }
  },
  events: (): readonly unknown[] => events,
  /** The states since the mesh was opened, the one of now at the end. */
  states: (): readonly string[] => [...states, mesh.status.state],
  /** When the connection was lost last, in ms since the epoch, and why. */
  lost: (): { at: number; reason: string } | null => lost,
  /** So many requests at once: how many got their own answer, and how many any or an error. */
  async burst(service: string, count: number): Promise<{ right: number; settled: number }> {
    const answers = await Promise.allSettled(
      Array.from({ length: count }, (_, value) => mesh.request(service, "echo", { value })),
    );
    const right = answers.filter((answer, value) => answer.status === "fulfilled" && answer.value === value);
    return { right: right.length, settled: answers.length };
  },
  close: (): Promise<void> => mesh.close(),
};

Object.assign(globalThis, steps);
