"""A NuroPb 0.1.8 peer for the interoperability tests: a service, and a client that does as standard input says.

    python peer.py --url AMQP_URL --service NAME [--management API_URL] [--event TOPIC_PATTERN]...
        [--undescribable]

Each line of standard input is one command, `{"id", "op", ...}`; each line of standard output is one answer,
`{"id", "ok"}` or `{"id", "error": {"name", "description"}}`. The first line is `{"ready": true}`, once both
consume. Logs go to standard error. It ends when standard input closes.
"""
import argparse
import asyncio
import json
import logging
import os
import ssl
import sys
from datetime import datetime, timedelta
from typing import Any, Dict, List, Optional
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from nuropb import nuropb_api
from nuropb.rmq_api import RMQAPI
from nuropb.rmq_lib import configure_nuropb_rmq, get_connection_parameters
from orders import Orders, Undescribable

Json = Dict[str, Any]

REQUEST_SECONDS = 15
"""How long a request of the client may take. NuroPb itself would wait for ever."""

GOODBYE_SECONDS = 3


class Recorder(RMQAPI):
    """Keeps whatever comes in, with what NuroPb does not hand on to a service: the trace id above all."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.messages: List[Json] = []
        super().__init__(*args, **kwargs)
        self.losses = 0
        closed = self.transport.on_channel_closed

        def on_channel_closed(channel: Any, reason: Exception) -> None:
            self.losses += 1
            closed(channel, reason)

        self.transport.on_channel_closed = on_channel_closed

    def receive_transport_message(
        self, service_message: Any, message_complete_callback: Any, metadata: Json
    ) -> None:
        self.messages.append(
            {
                "type": service_message["nuropb_type"],
                "trace_id": service_message["trace_id"],
                "correlation_id": service_message["correlation_id"],
                "ttl": service_message["ttl"],
                "encrypted": metadata.get("encrypted", False),
                "payload": service_message["nuropb_payload"],
            }
        )
        super().receive_transport_message(service_message, message_complete_callback, metadata)

    def traced(self, trace_id: str) -> List[Json]:
        return [message for message in self.messages if message["trace_id"] == trace_id]


async def peer(url: str, orders: Orders, management: Optional[str], events: List[str]) -> None:
    service = Recorder(
        amqp_url=url,
        service_name=orders._service_name,
        instance_id=uuid4().hex,
        service_instance=orders,
        transport_settings={"event_bindings": events},
    )
    orders._traced = service.traced
    client = Recorder(amqp_url=url, instance_id=uuid4().hex)

    # What NuroPb's service runner does before it connects.
    settings = service.transport.rmq_configuration
    keys = ("events_exchange", "rpc_exchange", "dl_exchange", "dl_queue")
    configure_nuropb_rmq(rmq_url=url, **{key: settings[key] for key in keys})
    if management is not None:
        # NuroPb takes it for granted that the management API is at AMQP's port + 10000.
        nuropb_api.rmq_api_url_from_amqp_url = lambda _url: management

    def call_of(message: Json) -> Json:
        keys = ("service", "method", "params", "context", "ttl", "trace_id", "encrypted")
        return {key: message[key] for key in keys}

    async def request(message: Json) -> Any:
        call = client.request(**call_of(message), rpc_response=not message["raw"])
        return await asyncio.wait_for(call, REQUEST_SECONDS)

    async def command(message: Json) -> None:
        client.command(**call_of(message))

    async def publish(message: Json) -> None:
        keys = ("topic", "event", "context", "trace_id", "encrypted")
        client.publish_event(**{key: message[key] for key in keys})

    async def describe(message: Json) -> Json:
        # Its own `refresh` fails for a service that it does not know yet.
        client._service_discovery.pop(message["service"], None)
        info = await asyncio.wait_for(client.describe_service(message["service"]), REQUEST_SECONDS)
        name = message["service"]
        encrypted = {method: await client.requires_encryption(name, method) for method in info["methods"]}
        return {"info": info, "encrypted": encrypted, "has_public_key": await client.has_public_key(name)}

    async def configure(message: Json) -> None:
        mesh = url.split("/")[-1]
        await asyncio.to_thread(nuropb_api.configure_mesh, mesh, connection_properties=url)

    async def text(message: Json) -> str:
        # What JSON cannot bring back as it is.
        return str(await asyncio.wait_for(client.request(**call_of(message)), REQUEST_SECONDS))

    async def refresh(message: Json) -> Json:
        client._service_discovery.pop(message["service"], None)
        return await client.describe_service(message["service"], refresh=True)

    async def settings(message: Json) -> List[str]:
        # The keys that NuroPb puts into the settings that it is given.
        given: Json = {}
        RMQAPI(amqp_url=url, transport_settings=given)
        return sorted(given)

    async def verifies(message: Json) -> bool:
        properties = nuropb_api.default_connection_properties({"ssl": True})
        parameters = get_connection_parameters(properties)
        return parameters.ssl_options.context.verify_mode == ssl.CERT_REQUIRED

    async def certificate(message: Json) -> Json:
        # One that nobody knows.
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.utcnow()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {"key": pem.decode(), "cert": certificate.public_bytes(Encoding.PEM).decode()}

    async def unanswered(message: Json) -> int:
        # How many requests are still waiting after the connection was lost.
        while client.losses == 0:
            await asyncio.sleep(0.01)
        return len(client._response_futures)

    async def losses(message: Json) -> int:
        return service.losses

    async def arrivals(message: Json) -> List[Json]:
        return service.traced(message["trace_id"])

    async def answers(message: Json) -> List[Json]:
        return client.traced(message["trace_id"])

    operations = {
        operation.__name__: operation
        for operation in (
            *(request, command, publish, describe, configure, arrivals, answers),
            *(text, refresh, settings, verifies, certificate, unanswered, losses),
        )
    }

    async def carry_out(message: Json) -> None:
        try:
            answer = {"ok": await operations[message["op"]](message)}
        except Exception as error:
            answer = {"error": {"name": type(error).__name__, "description": str(error)}}
        say({"id": message["id"], **answer})

    await service.connect()
    await client.connect()
    say({"ready": True})
    tasks = set()
    async for line in lines_of(sys.stdin):
        task = asyncio.ensure_future(carry_out(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.wait_for(asyncio.gather(client.disconnect(), service.disconnect()), GOODBYE_SECONDS)


async def lines_of(stream: Any) -> Any:
    reader = asyncio.StreamReader(limit=2**24)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, stream)
    while line := await reader.readline():
        yield line


def say(message: Json) -> None:
    print(json.dumps(message, default=str), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--service", required=True)
    parser.add_argument("--management")
    parser.add_argument("--event", action="append", default=[])
    parser.add_argument("--undescribable", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        orders = (Undescribable if args.undescribable else Orders)(args.service)
        asyncio.run(peer(args.url, orders, args.management, args.event))
    except asyncio.TimeoutError:
        # It would not say goodbye in time; the broker notices all the same.
        os._exit(0)


if __name__ == "__main__":
    main()
