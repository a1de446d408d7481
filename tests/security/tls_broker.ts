/**
 * A RabbitMQ that takes none but clients with a certificate, and knows them by it.
 *
 * @module
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { freePorts } from "../support/ports.ts";
import { startRabbitmq } from "../support/rabbitmq.ts";
import type { RabbitmqNode } from "../support/rabbitmq.ts";
import type { Certificate } from "./certificates.ts";

/** A running broker. */
export interface TlsBroker extends AsyncDisposable {
  /** Where it takes TLS. */
  readonly port: number;
  readonly node: RabbitmqNode;
}

/**
 * Starts one.
 *
 * @param certificate Its own.
 * @param authority Whose certificates it takes from clients, PEM. The common name in them is the account's.
 */
export async function startTlsBroker(certificate: Certificate, authority: string): Promise<TlsBroker> {
  const folder = await mkdtemp(join(tmpdir(), "tls-broker-"));
  const removal = () => rm(folder, { recursive: true });
  try {
    const [port] = await freePorts(1);
    const paths = {
      cert: join(folder, "cert.pem"),
      key: join(folder, "key.pem"),
      ca: join(folder, "ca.pem"),
    };
    await writeFile(paths.cert, certificate.cert);
    await writeFile(paths.key, certificate.key);
    await writeFile(paths.ca, authority);
    await writeFile(
      join(folder, "tls.conf"),
      `
listeners.ssl.1 = 127.0.0.1:${port}
ssl_options.certfile = ${paths.cert}
ssl_options.keyfile = ${paths.key}
ssl_options.cacertfile = ${paths.ca}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
ssl_cert_login_from = common_name
`,
    );
    // RabbitMQ reads these besides what the server is started with anyway.
    process.env["RABBITMQ_CONFIG_FILES"] = join(folder, "*.conf");
    process.env["RABBITMQ_ENABLED_PLUGINS"] = "rabbitmq_management,rabbitmq_auth_mechanism_ssl";
    const node = await startRabbitmq().finally(() => {
      delete process.env["RABBITMQ_CONFIG_FILES"];
      delete process.env["RABBITMQ_ENABLED_PLUGINS"];
    });
    return {
      port,
      node,
      async [Symbol.asyncDispose]() {
        await node[Symbol.asyncDispose]();
        await removal();
      },
    };
  } catch (error) {
    await removal();
    throw error;
  }
}
