/**
 * Request and reply over NATS, another broker.
 *
 * @module
 */
import { runProgram } from "../program.ts";
import { packageOf } from "./package_of.ts";

interface Message {
  json(): unknown;
  respond(data: string): boolean;
}

interface NatsConnection {
  subscribe(
    subject: string,
    options: { queue: string; callback: (error: Error | null, message: Message) => void },
  ): void;
  request(subject: string, data: string, options: { timeout: number }): Promise<Message>;
  flush(): Promise<void>;
}

interface Nats {
  connect(options: { servers: string }): Promise<NatsConnection>;
}

const { connect } = await packageOf<Nats>("@nats-io/transport-node");

runProgram({
  async serve({ url }) {
    const connection = await connect({ servers: url });
    connection.subscribe("echo", {
      queue: "echo",
      callback: (error, message) => {
        if (error === null) message.respond(JSON.stringify(message.json()));
      },
    });
    await connection.flush();
    return {};
  },

  async connect({ url }) {
    const connection = await connect({ servers: url });
    const options = { timeout: 30_000 };
    return {
      actions: {
        request: async (payload) =>
          (await connection.request("echo", JSON.stringify(payload), options)).json(),
      },
    };
  },
});
