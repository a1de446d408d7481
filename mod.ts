/**
 * NuroPb service meshes over RabbitMQ: any object becomes a service, and anyone on the mesh sends it requests and
 * commands and listens to its events. On Deno, Bun, Node, Workers and in browsers, beside Python services.
 *
 * @example
 * ```ts
 * import { connect, serve } from "@nuropb/mesh";
 *
 * class QuickExample {
 *   hello({ name }: { name: string }) {
 *     return `hello ${name}`;
 *   }
 * }
 *
 * const service = await serve(new QuickExample(), { url: "memory:" });
 * const mesh = await connect("memory:");
 *
 * console.log(await mesh.request("quick-example", "hello", { name: "Ann" })); // hello Ann
 *
 * await mesh.close();
 * await service.close();
 * ```
 *
 * @module
 */
export { connect, DEFAULT_URL } from "./src/mesh.ts";
export type { Mesh, StatusEvent } from "./src/mesh.ts";
export { serve } from "./src/service.ts";
export type { ServeOptions, Service, TakesClaims } from "./src/service.ts";
export type { DedupeOptions } from "./src/host/dedupe.ts";
export { setupMesh } from "./src/setup.ts";
export type { SetupOptions } from "./src/setup.ts";
export type {
  Caller,
  CallOptions,
  DeadLetter,
  DeliveryStream,
  EventMessage,
  MeshResponse,
  MethodDescription,
  MethodName,
  MethodParams,
  MethodResult,
  ParametersSchema,
  PublishOptions,
  ServiceDescription,
  ServiceProxy,
  SubscribeOptions,
  Subscription,
} from "./src/calls.ts";
export { bearer } from "./src/host/bearer.ts";
export type { BearerClaims, BearerOptions } from "./src/host/bearer.ts";
export type { BearerKeyOptions, JsonWebKeySet } from "./src/host/bearer_keys.ts";
export type { Authorize, ClaimsOf } from "./src/host/claims.ts";
export type { Context } from "./src/host/context.ts";
export { event, method } from "./src/host/methods.ts";
export type { EventHandler, MethodOptions } from "./src/host/methods.ts";
export type {
  ConnectOptions,
  Logger,
  SchemaIssue,
  SchemaResult,
  StandardSchema,
  TlsOptions,
} from "./src/options.ts";
export type { PrivateKeyInput } from "./src/wire/private_key.ts";
export type { MeshStatus } from "./src/transport/supervisor.ts";
export {
  NuropbAuthenticationError,
  NuropbAuthorizationError,
  NuropbCallAgain,
  NuropbCallAgainReject,
  NuropbDeprecatedError,
  NuropbException,
  NuropbHandlingError,
  NuropbMessageError,
  NuropbNotDeliveredError,
  NuropbTimeoutError,
  NuropbTransportError,
  NuropbValidationError,
} from "./src/errors.ts";
export type { NuropbErrorCode, NuropbErrorOptions, RemoteError } from "./src/errors.ts";
