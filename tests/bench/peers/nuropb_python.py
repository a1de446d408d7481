"""NuroPb 0.1.8 in Python: a service, or a caller.

It speaks as `program.ts` does: a question is one line of JSON on standard input, the answer one on standard output.
"""
import asyncio
import json
import logging
import sys
import time
import traceback
from typing import Any, Dict, List
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import rsa
from nuropb.contexts.describe import publish_to_mesh
from nuropb.rmq_api import RMQAPI
from nuropb.rmq_lib import configure_nuropb_rmq

Json = Dict[str, Any]

MARK = "@bench "
SERVICE = "echo"


class Echo:
    _service_name = SERVICE
    _version = "1.0.0"

    def __init__(self) -> None:
        self._private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def echo(self, text: str) -> Json:
        return {"text": text}

    @publish_to_mesh(requires_encryption=True)
    def sealed(self, text: str) -> Json:
        return {"text": text}


class Program:
    def __init__(self) -> None:
        self.api: Any = None

    async def serve(self, question: Json) -> Json:
        settings = question["settings"]
        transport = {"prefetch_count": settings["concurrency"]}
        self.api = RMQAPI(
            amqp_url=settings["url"],
            service_name=SERVICE,
            instance_id=uuid4().hex,
            service_instance=Echo(),
            transport_settings=transport,
        )
        # What NuroPb's service runner does before it connects.
        names = self.api.transport.rmq_configuration
        keys = ("events_exchange", "rpc_exchange", "dl_exchange", "dl_queue")
        configure_nuropb_rmq(rmq_url=settings["url"], **{key: names[key] for key in keys})
        await self.api.connect()
        return {}

    async def connect(self, question: Json) -> Json:
        settings = question["settings"]
        transport = {"prefetch_count": settings["concurrency"]}
        self.api = RMQAPI(
            amqp_url=settings["url"], instance_id=uuid4().hex, transport_settings=transport
        )
        await self.api.connect()
        return {}

    async def call(self, action: str, params: Json) -> None:
        encrypted = action == "encrypted"
        await self.api.request(SERVICE, "sealed" if encrypted else "echo", params, {}, encrypted=encrypted)

    async def cold(self, question: Json) -> Json:
        started = time.perf_counter()
        await self.connect(question)
        await self.call("request", payload_of(question["size"]))
        return {"elapsed": (time.perf_counter() - started) * 1000}

    async def load(self, question: Json) -> Json:
        load = question["load"]
        params = payload_of(load["size"])
        if load["action"] == "encrypted":
            # It learns the service's key from there.
            await self.api.describe_service(SERVICE)
        cpu = time.process_time()
        began = time.time()
        first = time.perf_counter() + load["warmUp"] / 1000
        last = first + load["duration"] / 1000
        times: List[float] = []
        total = 0

        async def repeat() -> None:
            nonlocal total
            started = time.perf_counter()
            while started < last:
                await self.call(load["action"], params)
                now = time.perf_counter()
                total += 1
                if first <= now < last:
                    times.append((now - started) * 1000)
                started = now

        await asyncio.gather(*(repeat() for _ in range(load["inFlight"])))
        times.sort()
        return {
            "rate": len(times) / load["duration"] * 1000 if load["duration"] > 0 else 0,
            "p50": quantile(times, 0.5),
            "p99": quantile(times, 0.99),
            "total": total,
            "cpu": (time.process_time() - cpu) * 1_000_000,
            "began": began * 1000,
        }

    async def cpu(self, _question: Json) -> Json:
        return {"used": time.process_time() * 1_000_000}

    async def answer(self, question: Json) -> Json:
        try:
            return await getattr(self, question["ask"])(question)
        except Exception:
            return {"error": traceback.format_exc()}


def payload_of(size: int) -> Json:
    return {"text": "x" * (size - len('{"text":""}'))}


def quantile(times: List[float], part: float) -> Any:
    return times[int(len(times) * part)] if times else None


def say(answer: Json) -> None:
    print(MARK + json.dumps(answer), flush=True)


async def main() -> None:
    reader = asyncio.StreamReader(limit=2**24)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    program = Program()
    say({})
    while line := await reader.readline():
        say(await program.answer(json.loads(line)))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(main())
