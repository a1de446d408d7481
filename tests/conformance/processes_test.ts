import assert from "node:assert/strict";
import { afterEach, describe, it } from "@std/testing/bdd";
import { rabbitmqUrl, uniqueName, urls } from "../support/env.ts";
import { start } from "./child.ts";
import type { Child } from "./child.ts";
import { stage, within } from "./stage.ts";

let children: Child[] = [];

function starting(name: string, ...args: string[]): Child {
  const child = start(name, ...args);
  children.push(child);
  return child;
}

async function endAll() {
  for (const child of children) child.kill();
  await Promise.all(children.map(({ ended }) => ended));
  children = [];
}

for (const { name, url } of urls()) {
  describe(`a process on ${name}`, () => {
    afterEach(endAll);

    it("ends by itself once everything in it is closed", async () => {
      const child = starting("everything_script.ts", url);
      await child.line("closed");
      assert.deepEqual(await within(child.ended, 3_000), { code: 0, output: "closed\n" });
    });
  });
}

const url = rabbitmqUrl();

// Within one process alone, `memory:` has no other processes to share with.
if (url !== undefined) {
  describe("processes that serve one name on rabbitmq", () => {
    const open = stage(url);
    afterEach(endAll);

    /** Two of them, ready. */
    async function workers() {
      const name = uniqueName("service");
      const both = [starting("worker_script.ts", url!, name), starting("worker_script.ts", url!, name)];
      await Promise.all(both.map((child) => child.line("ready")));
      return { name, both, pids: both.map(({ pid }) => pid).toSorted() };
    }

    it("share the work, and end by themselves one after the other", async () => {
      const { name, both, pids } = await workers();
      const mesh = await open.mesh();
      const answers = await Promise.all(Array.from({ length: 40 }, () => mesh.request<number>(name, "who")));
      assert.deepEqual([...new Set(answers)].toSorted(), pids);
      const quitter = await mesh.request<number>(name, "quit");
      const first = both.find(({ pid }) => pid === quitter)!;
      assert.deepEqual(await within(first.ended, 5_000), { code: 0, output: "ready\n" });
      const second = both.find(({ pid }) => pid !== quitter)!;
      assert.equal(await mesh.request(name, "quit"), second.pid);
      assert.deepEqual(await within(second.ended, 5_000), { code: 0, output: "ready\n" });
    });

    it("take over what one of them was at when it died", async () => {
      const { name, both } = await workers();
      const mesh = await open.mesh();
      const answer = mesh.request<number>(name, "hang", {}, { ttl: 20_000 });
      const victim = await Promise.race(both.map((child) => child.line("hanging").then(() => child)));
      victim.kill();
      const survivor = both.find((child) => child !== victim)!;
      assert.equal(await within(answer, 10_000), survivor.pid);
    });
  });
}
