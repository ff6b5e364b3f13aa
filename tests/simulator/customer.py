"""Whoever asks the simulated Wazzup, and what they are answered."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import Any


@dataclass
class Got:
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Get = Callable[..., Got]


@dataclass
class Customer:
    """An account with one key, which no other test uses."""

    id: str
    key: str
