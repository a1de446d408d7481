/**
 * The client's part in opening a connection, as frames.
 *
 * @module
 */
import * as AMQPFrame from "@cloudamqp/amqp-client/amqp-frame";

/** Who connects, and what the broker shows of it. */
export interface Identity {
  readonly username: string;
  readonly password: string;
  /** By which the account proves itself: by its password, or by the client's certificate. */
  readonly mechanism: "PLAIN" | "EXTERNAL";
  /** The connection's name. */
  readonly name: string;
}

/** What the broker may use towards this client. */
const capabilities = {
  authentication_failure_close: true,
  "basic.nack": true,
  "connection.blocked": true,
  consumer_cancel_notify: true,
  publisher_confirms: true,
};

/** Connection.StartOk: who connects. */
export function startOk({ username, password, mechanism, name }: Identity): Uint8Array {
  const response = mechanism === "PLAIN" ? `\0${username}\0${password}` : "";
  const frame = method(AMQPFrame.ConnectionMethod.START_OK, 2_048 + 4 * (name.length + response.length));
  frame.writeTable({
    connection_name: name,
    product: "@nuropb/mesh",
    information: "https://github.com/nuropb/mesh",
    platform: "web",
    capabilities,
  });
  frame.writeShortString(mechanism);
  frame.writeLongString(response);
  frame.writeShortString("");
  return finished(frame);
}

/** Connection.TuneOk: how many channels, how large frames, and seconds between heartbeats. */
export function tuneOk(channelMax: number, frameMax: number, heartbeat: number): Uint8Array {
  const frame = method(AMQPFrame.ConnectionMethod.TUNE_OK, 20);
  frame.writeUint16(channelMax);
  frame.writeUint32(frameMax);
  frame.writeUint16(heartbeat);
  return finished(frame);
}

/** Connection.Open: on which virtual host. */
export function open(vhost: string): Uint8Array {
  const frame = method(AMQPFrame.ConnectionMethod.OPEN, 512);
  frame.writeShortString(vhost);
  frame.writeUint8(0);
  frame.writeUint8(0);
  return finished(frame);
}

function method(id: AMQPFrame.ConnectionMethod, bufferSize: number): AMQPFrame.Writer {
  return new AMQPFrame.Writer({
    bufferSize,
    type: AMQPFrame.Type.METHOD,
    channel: 0,
    classId: AMQPFrame.ClassId.CONNECTION,
    method: id,
  });
}

function finished(frame: AMQPFrame.Writer): Uint8Array {
  frame.finalize();
  return frame.toUint8Array();
}
