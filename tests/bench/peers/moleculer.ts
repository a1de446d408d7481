/**
 * Moleculer over its AMQP transporter.
 *
 * @module
 */
import { runProgram, type Settings } from "../program.ts";
import { packageOf } from "./package_of.ts";

interface ServiceBroker {
  createService(schema: object): void;
  start(): Promise<void>;
  waitForServices(names: string): Promise<unknown>;
  call(action: string, params: object): Promise<unknown>;
}

interface Moleculer {
  readonly default: { readonly ServiceBroker: new (options: object) => ServiceBroker };
}

const { default: { ServiceBroker } } = await packageOf<Moleculer>("moleculer");

function brokerFor(nodeID: string, { url, concurrency }: Settings): ServiceBroker {
  return new ServiceBroker({
    nodeID,
    logger: false,
    transporter: { type: "AMQP", options: { url, prefetch: concurrency } },
  });
}

runProgram({
  async serve(settings) {
    const broker = brokerFor("service", settings);
    broker.createService({
      name: "echo",
      actions: { echo: ({ params }: { params: unknown }) => params },
    });
    await broker.start();
    return {};
  },

  async connect(settings) {
    const broker = brokerFor("caller", settings);
    await broker.start();
    await broker.waitForServices("echo");
    return { actions: { request: (payload) => broker.call("echo.echo", payload) } };
  },
});
