"""Log format, text or JSON.

What users, Wazzup and the API server write may hold a phone number or a channel's name, so log
lines name objects and reasons, and tracebacks show code without the exceptions' messages.
"""

import logging
import sys
import traceback
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]


class _CodeOnly(logging.Formatter):
    """Formats a traceback as lines of code and types of exceptions."""

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "Traceback (most recent call last):\n" + _traceback(ei[1])


def _traceback(error: BaseException) -> str:
    """Return the traceback, causes first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    parts = [_traceback(cause)] if cause else []
    if isinstance(error, BaseExceptionGroup):
        parts.extend(map(_traceback, error.exceptions))
    parts.append("".join(traceback.format_tb(error.__traceback__)) + name)
    return "\n".join(parts)


class _CodeOnlyJson(_CodeOnly, JsonFormatter):
    pass


def _cut(record: logging.LogRecord) -> bool:
    """Keep the first line: asyncio appends the failed task with its exception's message."""
    record.msg, record.args = record.getMessage().partition("\n")[0], ()
    return True


def configure(format_: LogFormat, level: str) -> None:
    """Log to standard error."""
    formatter: logging.Formatter
    if format_ == "json":
        formatter = _CodeOnlyJson(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    else:
        formatter = _CodeOnly(
            "{asctime} {levelname:<7} {name}: {message}", "%Y-%m-%dT%H:%M:%S%z", style="{"
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(_cut)
