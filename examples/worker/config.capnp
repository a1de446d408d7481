# How to run the worker on workerd, Cloudflare's runtime, on a machine of yours. On Cloudflare itself nothing of this
# is needed but the names below in wrangler.jsonc.

using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    # Workers reach public addresses unless told otherwise, and a broker on this machine is none.
    (name = "internet", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [(name = "http", address = "localhost:8080", http = (), service = "worker")],
);

const worker :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = "2026-10-01",
  bindings = [
    (name = "NUROPB_URL", text = "amqp://guest:guest@localhost:5672/nuropb"),
    (name = "GREETER", durableObjectNamespace = "Greeter"),
  ],
  durableObjectNamespaces = [(className = "Greeter", uniqueKey = "greeter")],
  durableObjectStorage = (inMemory = void),
);
