"""Log format, text or JSON, with phone numbers masked."""

import logging
import sys
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

from wazzup_operator.domain.phone import mask

LogFormat = Literal["text", "json"]


class _MaskedText(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


class _MaskedJson(JsonFormatter):
    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        # Mask before encoding: the digits of an escape such as \u2116 would extend the number.
        return {key: _masked(value) for key, value in log_data.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {_masked(key): _masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(inner) for inner in value]
    if isinstance(value, str | int):
        masked = mask(str(value))
        return value if masked == str(value) else masked
    return value


def configure(format_: LogFormat, level: str) -> None:
    """Log to standard error."""
    formatter: logging.Formatter
    if format_ == "json":
        formatter = _MaskedJson(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    else:
        formatter = _MaskedText(
            "{asctime} {levelname:<7} {name}: {message}", "%Y-%m-%dT%H:%M:%S%z", style="{"
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
