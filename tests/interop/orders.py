"""The service of the interoperability tests' Python peer: the methods of the recorded messages, and more."""
import asyncio
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Callable, Dict, List, Optional
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import rsa
from nuropb.contexts.context_manager_decorator import nuropb_context
from nuropb.contexts.describe import publish_to_mesh
from nuropb.interface import (
    NuropbAuthenticationError,
    NuropbAuthorizationError,
    NuropbCallAgain,
    NuropbDeprecatedError,
    NuropbSuccess,
    NuropbValidationError,
)

Json = Dict[str, Any]


class OrderLocked(Exception):
    """An exception that only this program knows."""


@dataclass
class Order:
    id: str
    qty: int
    when: datetime


def claims_of(token: str) -> Json:
    return {"sub": "u1", "user_id": "u1", "token": token}


def claims_of_nobody(token: str) -> None:
    """Does not know any token."""


def must_not_run(token: str) -> None:
    raise NuropbAuthenticationError("asked after all")


class Orders:
    """Orders service doc"""

    def __init__(self, name: str) -> None:
        self._service_name = name
        self._version = "1.2.3"
        self._private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._instance = uuid4().hex
        self._called_again: set[str] = set()
        self._handled_later: set[str] = set()
        # What has come in under a trace; the peer sets it.
        self._traced: Callable[[str], List[Json]] = lambda _trace_id: []

    def add(self, a: int, b: int = 2) -> int:
        """adds two"""
        return a + b

    def tag(self, names: List[str], note: Optional[str] = None, price: float = 0.5) -> int:
        return len(names)

    async def slow(self, sleep: float = 0.05) -> str:
        await asyncio.sleep(sleep)
        return "slept"

    def types(self) -> Json:
        return {
            "dt": datetime(2024, 1, 2, 3, 4, 5, 678901),
            "dtz": datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
            "d": date(2024, 1, 2),
            "t": time(3, 4, 5),
            "td": timedelta(days=1, seconds=2),
            "dec": Decimal("12.30"),
            "dc": Order("o", 1, datetime(2024, 1, 1)),
            "set": {1},
            "nan": float("nan"),
            "inf": float("inf"),
            "minus_inf": float("-inf"),
            "big": 2**70,
            "uni": "h\u00e9llo \u2713 \u0000",
            "tuple": (1, 2),
            "words": "NaN, Infinity",
        }

    def nothing(self) -> None:
        return None

    def echo(self, value) -> Any:
        return value

    def kinds(self, **values) -> Dict[str, str]:
        return {name: type(value).__name__ for name, value in values.items()}

    def boom(self, text: str = "bad value") -> None:
        raise ValueError(text)

    def locked(self) -> None:
        raise OrderLocked("o-1\nis locked: by Ann")

    async def aboom(self) -> None:
        raise ValueError("bad async value")

    def verr(self) -> None:
        raise NuropbValidationError("invalid input")

    async def averr(self) -> None:
        raise NuropbValidationError("invalid async input")

    def authn(self) -> None:
        raise NuropbAuthenticationError("who are you")

    def authz(self) -> None:
        raise NuropbAuthorizationError("not allowed")

    def depr(self) -> None:
        raise NuropbDeprecatedError("old")

    def success(self, topic: str = "orders.done") -> None:
        event = {"topic": topic, "payload": {"id": 9}, "target": None}
        raise NuropbSuccess(result={"ok": 1}, events=[event])

    async def asuccess(self) -> None:
        raise NuropbSuccess(result={"ok": 2})

    def again_once(self, key: str = "") -> str:
        if key not in self._called_again:
            self._called_again.add(key)
            raise NuropbCallAgain("once more")
        self._called_again.remove(key)
        return "second time"

    async def aagain_once(self, key: str = "async") -> str:
        return self.again_once(key)

    def again_loop(self) -> None:
        raise NuropbCallAgain("loop")

    @nuropb_context
    @publish_to_mesh(authorize_func=claims_of)
    def whoami(self, ctx: Any, x: int = 1) -> Json:
        return ctx.user_claims

    @nuropb_context
    def context_of(self, ctx: Any) -> Json:
        return ctx.context

    @nuropb_context
    @publish_to_mesh(authorize_func=claims_of_nobody)
    def for_nobody(self, ctx: Any) -> str:
        return "let through"

    @publish_to_mesh(authorize_func=must_not_run)
    def forgotten_context(self) -> str:
        return "let through"

    @nuropb_context
    def add_event(self, ctx: Any, topic: str) -> None:
        ctx.add_event({"topic": topic, "event": {"id": 9}, "context": {}})

    @publish_to_mesh(requires_encryption=True)
    def secret(self, kw) -> str:
        return f"secret {kw}"

    @publish_to_mesh(hide_method=True)
    def hidden(self) -> str:
        return "hidden but callable"

    def _private(self) -> str:
        return "never"

    def language(self) -> str:
        return "python"

    def instance(self) -> str:
        return self._instance

    def one(self, name: str) -> Any:
        return self.types()[name]

    def handled_later(self, key: str) -> bool:
        return key in self._handled_later

    def received(self, trace_id: str) -> List[Json]:
        return self._traced(trace_id)

    async def _handle_later(self, key: str) -> None:
        self._handled_later.add(key)

    def _handle_event_(self, topic: str, event: Any, target: Any, context: Json) -> Any:
        # It is recorded already.
        if isinstance(event, dict) and "later" in event:
            return self._handle_later(event["later"])
        if isinstance(event, dict) and event.get("fail"):
            raise ValueError("the event is refused")


class Undescribable(Orders):
    """With a text as annotation, as `from __future__ import annotations` makes them: its describe raises."""

    def odd(self, a: "int") -> int:
        return a
