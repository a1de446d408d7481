/**
 * A running broker, and its virtual hosts by way of the management API.
 *
 * @module
 */

/** A running RabbitMQ. */
export interface Broker extends AsyncDisposable {
  /** Where the management API is, without a trailing slash; undefined where there is none. */
  readonly managementUrl: string | undefined;
  /** Whether the management API answers. */
  answers(): Promise<boolean>;
  /** Makes a virtual host, which the disposal deletes. */
  createVhost(name: string): Promise<Vhost>;
}

/** A virtual host of its own. */
export interface Vhost extends AsyncDisposable {
  /** `amqp://user:password@host:port/name` */
  readonly url: string;
}

/** A broker without management API, on which every test shares the virtual host of the url. */
export function plainBrokerAt(url: string): Broker {
  const nothing = { [Symbol.asyncDispose]: () => Promise.resolve() };
  return {
    ...nothing,
    managementUrl: undefined,
    answers: () => Promise.resolve(false),
    createVhost: () => Promise.resolve({ ...nothing, url }),
  };
}

/** A broker that runs already. The user and the password are those of the url. */
export function brokerAt(url: string, managementUrl: string): Broker {
  const { protocol, username, password, host } = new URL(url);
  const user = username === "" ? "guest" : username;
  const authority = `${user}:${password === "" ? "guest" : password}`;
  const authorization = `Basic ${btoa(authority.split(":").map(decodeURIComponent).join(":"))}`;
  const request = async (method: string, path: string, body?: unknown) => {
    const response = await fetch(`${managementUrl}/api/${path}`, {
      method,
      headers: { authorization, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`RabbitMQ answered ${response.status} to ${method} ${path}: ${text}`);
  };
  return {
    managementUrl,
    answers: () => request("GET", "overview").then(() => true, () => false),
    async createVhost(name) {
      // On a busy machine it may take longer than RabbitMQ waits for it; once it is there, asking again is nothing.
      await request("PUT", `vhosts/${name}`).catch(() => request("PUT", `vhosts/${name}`));
      await request("PUT", `permissions/${name}/${user}`, { configure: ".*", write: ".*", read: ".*" });
      return {
        url: `${protocol}//${authority}@${host}/${name}`,
        [Symbol.asyncDispose]: () => request("DELETE", `vhosts/${name}`),
      };
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
