/**
 * What a peer other than ours does to a broker, and no mesh of ours: the same on both transports.
 *
 * @module
 */
import { memoryBroker } from "../../src/transport/memory.ts";
import { managementUrl, urls } from "../support/env.ts";
import type { TestUrl } from "../support/env.ts";
import { Management, vhostOf } from "./management.ts";

/** The transports on which this can be done: RabbitMQ needs its management API for it. */
export function rawUrls(): TestUrl[] {
  return urls().filter(({ name }) => name === "memory" || managementUrl() !== undefined);
}

/** Deletes a service's queue with all that is in it. */
export async function deleteQueue(url: string, service: string): Promise<void> {
  const queue = `nuropb-${service}-sq`;
  if (url.startsWith("memory:")) {
    memoryBroker(nameOf(url)).deleteQueue(queue);
    return;
  }
  const management = managementOf(url);
  await management.call("DELETE", management.path("queues", queue));
}

/** Publishes a command, or an event, with the body that a peer wrote. */
export async function publishRaw(
  url: string,
  type: "command" | "event",
  routingKey: string,
  body: string,
): Promise<void> {
  const exchange = type === "event" ? "nuropb-events-exchange" : "nuropb-rpc-exchange";
  const headers = {
    nuropb_protocol: "0.1.1",
    nuropb_version: "0.1.8",
    nuropb_type: type,
    trace_id: "t",
    encrypted: "",
  };
  const correlationId = "0123456789abcdef0123456789abcdef";
  if (url.startsWith("memory:")) {
    const properties = { contentType: "application/json", correlationId, headers };
    memoryBroker(nameOf(url)).publish({
      exchange,
      routingKey,
      properties,
      body: new TextEncoder().encode(body),
    });
    return;
  }
  const properties = { content_type: "application/json", correlation_id: correlationId, headers };
  await managementOf(url).publish(exchange, { routing_key: routingKey, properties }, body);
}

function nameOf(url: string): string {
  return url.slice("memory:".length);
}

function managementOf(url: string): Management {
  return new Management(managementUrl()!, vhostOf(url));
}
