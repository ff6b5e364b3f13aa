"""Logs: one line each, as text or JSON, with no whole phone number in them."""

import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

from wazzup_operator.domain.phone import mask

LogFormat = Literal["text", "json"]


class _Masked(logging.Formatter):
    """Masks what another formatter made: message, arguments and traceback alike."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return mask(self._inner.format(record))


def configure(format_: LogFormat, level: str) -> None:
    """Send all logs to standard error."""
    inner: logging.Formatter
    if format_ == "json":
        inner = JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    else:
        inner = logging.Formatter(
            "{asctime} {levelname:<7} {name}: {message}", "%Y-%m-%dT%H:%M:%S%z", style="{"
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Masked(inner))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
