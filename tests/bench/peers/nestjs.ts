/**
 * NestJS microservices over RabbitMQ.
 *
 * @module
 */
import { runProgram, type Settings } from "../program.ts";
import { packageOf } from "./package_of.ts";

type ClassDecorator = (target: new () => object) => void;
type MethodDecorator = (target: object, name: string, descriptor: PropertyDescriptor | undefined) => void;

interface Common {
  Controller(): ClassDecorator;
  Module(metadata: object): ClassDecorator;
}

interface Core {
  readonly NestFactory: {
    createMicroservice(module: new () => object, options: object): Promise<{ listen(): Promise<void> }>;
  };
}

interface Microservices {
  MessagePattern(pattern: string): MethodDecorator;
  readonly Transport: { readonly RMQ: number };
  readonly ClientProxyFactory: {
    create(options: object): {
      connect(): Promise<unknown>;
      send(pattern: string, data: unknown): unknown;
    };
  };
}

interface Rxjs {
  firstValueFrom(observable: unknown): Promise<unknown>;
}

await packageOf("reflect-metadata");
const { Controller, Module } = await packageOf<Common>("@nestjs/common");
const { NestFactory } = await packageOf<Core>("@nestjs/core");
const { MessagePattern, Transport, ClientProxyFactory } = await packageOf<Microservices>(
  "@nestjs/microservices",
);
const { firstValueFrom } = await packageOf<Rxjs>("rxjs");

class EchoController {
  echo(params: unknown): unknown {
    return params;
  }
}
class EchoModule {}

// What the decorators of a Nest program come to.
MessagePattern("echo")(
  EchoController.prototype,
  "echo",
  Object.getOwnPropertyDescriptor(EchoController.prototype, "echo"),
);
Controller()(EchoController);
Module({ controllers: [EchoController] })(EchoModule);

function optionsFor({ url, concurrency }: Settings): { transport: number; options: object } {
  return {
    transport: Transport.RMQ,
    options: {
      urls: [url],
      queue: "bench-nestjs",
      queueOptions: { durable: true },
      prefetchCount: concurrency,
    },
  };
}

runProgram({
  async serve(settings) {
    const { transport, options } = optionsFor(settings);
    const service = await NestFactory.createMicroservice(EchoModule, {
      transport,
      options: { ...options, noAck: true },
      logger: false,
    });
    await service.listen();
    return {};
  },

  async connect(settings) {
    const client = ClientProxyFactory.create(optionsFor(settings));
    await client.connect();
    return { actions: { request: (payload) => firstValueFrom(client.send("echo", payload)) } };
  },
});
