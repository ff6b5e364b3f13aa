"""What /metrics answers."""

import gzip
from typing import Protocol

from prometheus_client.exposition import choose_encoder, gzip_accepted

from wazzup_operator.observability.metrics import registry

_OPENMETRICS_END = b"# EOF\n"


class TextSource(Protocol):
    """Further metrics, already in the text format."""

    def text(self) -> str:
        """Return gauges in the text format, which OpenMetrics writes in the same way."""


_sources: list[TextSource] = []


def expose(source: TextSource) -> None:
    """Add its metrics to each scrape from now on."""
    _sources.append(source)


def scrape(accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
    """Return body and headers in the format and encoding that the scraper accepts."""
    encode, content_type = choose_encoder(accept)
    body = encode(registry)
    end = _OPENMETRICS_END if body.endswith(_OPENMETRICS_END) else b""
    further = "".join(source.text() for source in _sources).encode()
    body = body.removesuffix(end) + further + end
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if not gzip_accepted(accept_encoding):
        return body, headers
    # Higher levels take up to eight times as long and save a fifth.
    return gzip.compress(body, 1), {**headers, "Content-Encoding": "gzip"}
