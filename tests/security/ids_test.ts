import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect, serve } from "@nuropb/mesh";
import type { Context } from "@nuropb/mesh";
import { describe, it } from "@std/testing/bdd";
import { IdSource } from "../../src/ids.ts";
import { take } from "../conformance/stage.ts";
import { uniqueName } from "../support/env.ts";

const COUNT = 100_000;
const BITS = 128;
/** Six standard deviations of a fair coin: one in 500 million is further off. */
const TOLERANCE = 6 * Math.sqrt(COUNT) / 2;

/** How often each bit is set. */
function countBits(ids: readonly Uint8Array[]): number[] {
  const counts = new Array<number>(BITS).fill(0);
  for (const id of ids) {
    for (let bit = 0; bit < BITS; bit++) counts[bit]! += (id[bit >> 3]! >> (bit & 7)) & 1;
  }
  return counts;
}

describe("correlation ids", () => {
  it("are 128 bits of which each is a coin of its own, over 100 000 of them", () => {
    const source = new IdSource();
    const texts = Array.from({ length: COUNT }, () => source.next());
    assert.ok(texts.every((id) => /^[0-9a-f]{32}$/.test(id)));
    assert.equal(new Set(texts).size, COUNT);
    const ids = texts.map((id) => Uint8Array.from(Buffer.from(id, "hex")));
    // As against the id before: a counter, or a seed that is used twice, would show there.
    const changes = ids.map((id, index) => id.map((byte, at) => byte ^ ids.at(index - 1)![at]!));
    // As against the next byte: bytes that are copies of each other would show there.
    const neighbors = ids.map((id) => id.map((byte, at) => byte ^ id.at(at - 1)!));
    for (const [what, values] of Object.entries({ ids, changes, neighbors })) {
      for (const [bit, count] of countBits(values).entries()) {
        assert.ok(Math.abs(count - COUNT / 2) < TOLERANCE, `${what}: bit ${bit} is set ${count} times`);
      }
    }
  });

  it("are what crypto.getRandomValues gives, and nothing else", () => {
    let next = 0;
    Object.defineProperty(crypto, "getRandomValues", {
      configurable: true,
      value: (bytes: Uint8Array) => {
        for (const index of bytes.keys()) bytes[index] = Math.floor(next++ / 16) % 256;
        return bytes;
      },
    });
    try {
      const source = new IdSource();
      for (let index = 0; index < 1_000; index++) {
        assert.equal(source.next(), (index % 256).toString(16).padStart(2, "0").repeat(16));
      }
    } finally {
      Reflect.deleteProperty(crypto, "getRandomValues");
    }
  });

  it("are new for each request, command and event, and for each mesh", async () => {
    const url = `memory:${uniqueName("ids")}`;
    const seen: string[] = [];
    const note = (_params: unknown, { correlationId }: Context) => void seen.push(correlationId);
    const service = await serve({ note }, { url, name: "noting" });
    const meshes = await Promise.all([connect(url), connect(url)]);
    const events = service.mesh.subscribe("noted");
    await events.ready;
    for (let turn = 0; turn < 50; turn++) {
      for (const mesh of meshes) {
        await mesh.request("noting", "note");
        await mesh.command("noting", "note");
        await mesh.publish("noted", turn);
      }
    }
    for (const { ctx } of await take(events, 100)) seen.push(ctx.correlationId);
    await Promise.all(meshes.map((mesh) => mesh.close()));
    await service.close();
    assert.equal(seen.length, 300);
    assert.equal(new Set(seen).size, 300);
    assert.ok(seen.every((id) => /^[0-9a-f]{32}$/.test(id)));
  });
});
