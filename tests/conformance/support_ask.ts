/**
 * What can be asked of a mesh that is not connected yet.
 *
 * @module
 */
import type { Mesh } from "@nuropb/mesh";

/** Asks all of it. */
export function askAll(mesh: Mesh, service: string): Promise<unknown>[] {
  return [
    mesh.ready(),
    mesh.request(service, "work", {}, { encrypted: false }),
    mesh.request(service, "work"),
    mesh.request(service, "work", {}, { idempotent: true }),
    mesh.command(service, "work", {}, { encrypted: false }),
    mesh.publish("orders.created", 1),
    mesh.describe(service),
    mesh.subscribe("orders.*").ready,
  ];
}
