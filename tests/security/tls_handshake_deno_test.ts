import assert from "node:assert/strict";
import { connect } from "@nuropb/mesh";
import { afterEach, describe, it } from "@std/testing/bdd";
import { listen } from "../conformance/listener.ts";
import { noticeRejections } from "../transport/fake_broker.ts";

const { startTls } = Deno;

describe("a TLS handshake that comes to nothing", () => {
  noticeRejections();
  afterEach(() => {
    Deno.startTls = startTls;
  });

  /** Every connection on which TLS was begun, from now on. */
  function begun(): Deno.TlsConn[] {
    const connections: Deno.TlsConn[] = [];
    Deno.startTls = async (...args) => {
      const connection = await startTls(...args);
      connections.push(connection);
      return connection;
    };
    return connections;
  }

  const peers = {
    "since the peer speaks no TLS": (socket: { write(text: string): void }) => void socket.write("hello\r\n"),
    "since the peer says nothing": () => {},
  };

  for (const [why, onconnection] of Object.entries(peers)) {
    it(`leaves no connection open: ${why}`, async () => {
      const listener = await listen(onconnection);
      const connections = begun();
      const url = `amqps://ann:secret@127.0.0.1:${listener.port}/mesh`;
      await assert.rejects(connect(url, { connectTimeout: 300 }), { code: "CONNECT_FAILED" });
      assert.equal(connections.length, 1);
      await assert.rejects(connections[0]!.read(new Uint8Array(1)), Deno.errors.BadResource);
      await listener.close();
    });
  }
});
