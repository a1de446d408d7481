/// <reference lib="dom" />
/**
 * A page on the mesh: it calls a service, watches its events, and shows how its connection is.
 */
import { connect, type Mesh, type MeshStatus, NuropbException } from "@nuropb/mesh";
import type { TeaHouse } from "./demo.ts";

/** Put in by the bundler. A page's account is everyone's: give it one of its own, which may do little. */
declare const RELAY_URL: string;

interface Tea {
  readonly order: number;
  readonly tea: string;
  readonly cups: number;
  readonly guest: string;
}

/** How many events stay on the page. */
const SHOWN = 8;
/** How long after a failure the mesh is tried again, in ms. */
const PAUSE = 2_000;

const guest = `guest ${100 + Math.floor(Math.random() * 900)}`;
const element = <Kind extends HTMLElement>(id: string) => document.getElementById(id) as Kind;
const status = element("status");
const form = element<HTMLFormElement>("form");
const answer = element("answer");
const feed = element("feed");

function show({ state }: Pick<MeshStatus, "state">): void {
  const texts: Record<string, string> = { open: "Connected", closed: "Closed" };
  status.dataset["state"] = state;
  status.textContent = texts[state] ?? "Connecting";
}

function showAnswer(text: string, kind: "waiting" | "good" | "bad"): void {
  answer.textContent = text;
  answer.dataset["kind"] = kind;
}

function showEvent(topic: string, { order, tea, cups, guest: whose }: Tea): void {
  const item = document.createElement("li");
  item.dataset["topic"] = topic;
  const what = document.createElement("span");
  what.textContent = `${cups} × ${tea}`;
  const details = document.createElement("small");
  details.textContent = `#${order} · ${whose === guest ? "you" : whose} · ${new Date().toLocaleTimeString()}`;
  const badge = document.createElement("b");
  badge.textContent = topic === "tea.ready" ? "ready" : "ordered";
  item.append(badge, what, details);
  feed.prepend(item);
  while (feed.children.length > SHOWN) feed.lastElementChild?.remove();
}

/** Once it was there, a connection is opened anew by itself; the first one is up to the page. */
async function open(): Promise<Mesh> {
  for (;;) {
    try {
      const mesh = await connect(RELAY_URL, { name: `tea house, ${guest}` });
      showAnswer("", "waiting");
      return mesh;
    } catch (error) {
      showAnswer(error instanceof NuropbException ? error.message : String(error), "bad");
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }
}

const mesh = await open();
show(mesh.status);
mesh.addEventListener("status", ({ detail }) => show(detail));

const teaHouse = mesh.service<TeaHouse>("tea-house", { ttl: 10_000 });
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = new FormData(form);
  const [tea, cups] = [String(data.get("tea")), Number(data.get("cups"))];
  const started = performance.now();
  showAnswer("The kettle is on …", "waiting");
  try {
    const { order } = await teaHouse.brew({ tea, cups, guest });
    const seconds = ((performance.now() - started) / 1_000).toFixed(2);
    showAnswer(`Order #${order} is served, after ${seconds} s`, "good");
  } catch (error) {
    showAnswer(error instanceof NuropbException ? error.message : String(error), "bad");
  }
});

const events = mesh.subscribe<Tea>("tea.*");
await events.ready;
form.inert = false;
for await (const { topic, event } of events) showEvent(topic, event);
