/**
 * Connections as RabbitMQ's management API sees them, and how an operator closes them.
 *
 * @module
 */
import { eventually } from "../conformance/stage.ts";
import { Management, vhostOf } from "../conformance/management.ts";

interface RawConnection {
  readonly name: string;
  readonly user_provided_name?: string;
}

/** Closes the connections that were given this name, as soon as the API knows of one. */
export async function closeConnections(managementUrl: string, url: string, name: string): Promise<void> {
  const management = new Management(managementUrl, vhostOf(url));
  const named = async () => {
    const path = `${management.path("vhosts")}/connections`;
    const connections = await management.call<RawConnection[]>("GET", path) ?? [];
    return connections.filter(({ user_provided_name }) => user_provided_name === name);
  };
  const found = await eventually(named, ({ length }) => length > 0);
  await Promise.all(
    found.map((connection) =>
      management.call("DELETE", `connections/${encodeURIComponent(connection.name)}`)
    ),
  );
}
