"""An account of the simulator, and the answers to its requests."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import Any


@dataclass
class Response:
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def any_order(rows: list[Any]) -> list[str]:
    """Return the rows in an order that depends on their content only."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


Get = Callable[..., Response]


@dataclass
class Customer:
    """An account with one key, for one test."""

    id: str
    key: str
