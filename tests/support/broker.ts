/**
 * Finds the broker that the tests use.
 *
 * @module
 */
import { installDebianPackage, isRoot } from "./debian.ts";
import { type Broker, brokerAt, plainBrokerAt } from "./management.ts";
import { hasRabbitmq, startRabbitmq } from "./rabbitmq.ts";
import type { Found } from "./found.ts";

/**
 * Starts a broker from the RabbitMQ on this machine, or from Debian's package, which it installs as root; else takes
 * the one that NUROPB_TEST_URL (and NUROPB_TEST_MANAGEMENT_URL) names.
 *
 * @param folder For the files of the broker, else the system's temporary folder.
 * @param statisticsInterval How old a queue's length in the management API of a started one is at most, in ms.
 */
export async function findBroker(folder?: string, statisticsInterval?: number): Promise<Found<Broker>> {
  let trouble = "";
  if (!await hasRabbitmq() && isRoot()) {
    await installDebianPackage("rabbitmq-server").catch((error) => trouble = ` (${error})`);
  }
  // Once more, as someone may have taken a port that was free a moment ago.
  if (await hasRabbitmq()) {
    const start = () => startRabbitmq(folder, statisticsInterval);
    return { found: await start().catch(start) };
  }
  const url = Deno.env.get("NUROPB_TEST_URL");
  if (url === undefined) {
    return { missing: `install rabbitmq-server, or run as root on Debian, or set NUROPB_TEST_URL${trouble}` };
  }
  const broker = brokerAt(url, Deno.env.get("NUROPB_TEST_MANAGEMENT_URL") ?? managementUrlOf(url));
  return { found: await broker.answers() ? broker : plainBrokerAt(url) };
}

/** The API listens 10000 above AMQP's port unless configured otherwise. */
function managementUrlOf(url: string): string {
  const { hostname, port } = new URL(url);
  return `http://${hostname}:${Number(port === "" ? 5672 : port) + 10_000}`;
}
