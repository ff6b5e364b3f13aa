"""Wazzup's public API v3, of which `GET /v3/channels` is all that an operator can use."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

import aiohttp

from wazzup_operator.domain.listing import Listing
from wazzup_operator.proxy import proxy_for
from wazzup_operator.wazzup.errors import WazzupError, credentials_invalid, unreachable
from wazzup_operator.wazzup.wire import read_listing

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a listing that are read, counted after decompression."""

_SMALL = 1024 * 1024
"""Bytes of an answer that any number of accounts may read at once, and that is read in no time."""

_LARGE_AT_ONCE = 4
"""How many larger answers are read at once, so that all accounts together take bounded memory."""

_TOTAL, _CONNECT = 30.0, 10.0
"""Seconds that Wazzup has for its answer, and for the connection."""

_SLOT_TIMEOUT = 120.0
"""Seconds that a large answer waits for its turn; they are not Wazzup's."""


class WazzupObserver(Protocol):
    """Is told of each request: what was asked, the code of the answer, the seconds it took."""

    def __call__(self, operation: str, code: str, duration: float) -> None:
        """Take note of one request."""


class WazzupClient:
    """Lists the channels of whatever account an API key opens.

    One session for all accounts, and no cookies, which would carry something of one account to
    another. Proxies come from the environment at the start (HTTPS_PROXY, HTTP_PROXY, NO_PROXY); no
    netrc is read, as its credentials would take the key's place. TLS is verified, redirects are not
    followed: they would carry the key to another host.
    """

    def __init__(self, base_url: str, observe: WazzupObserver) -> None:
        self._url = f"{base_url.rstrip('/')}/v3/channels"
        self._proxy = proxy_for(base_url)
        self._observe = observe
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._parsing = asyncio.Lock()
        self._session = aiohttp.ClientSession(
            # Each account has one request under way, and those that hang are in nobody's way.
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(connect=_CONNECT),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def list_channels(self, api_key: str) -> Listing:
        """Return the account's listing. Raises WazzupError, and only that."""
        clock = _Clock()
        code = "200"
        try:
            async with AsyncExitStack() as until_read:
                body = await self._get(api_key, until_read, clock)
                clock.end()
                if len(body) <= _SMALL:
                    return read_listing(body)
                # It would hold up everything else for a second; several would take their memory
                # at the same time.
                async with self._parsing:
                    return await asyncio.to_thread(read_listing, body)
        except WazzupError as error:
            code = error.code
            raise
        finally:
            self._observe("list_channels", code, clock.elapsed())

    async def _get(self, api_key: str, until_read: AsyncExitStack, clock: "_Clock") -> bytearray:
        headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        try:
            async with (
                asyncio.timeout(_TOTAL) as limit,
                self._session.get(
                    self._url, headers=headers, proxy=self._proxy, allow_redirects=False
                ) as answer,
            ):
                if answer.status != 200:
                    raise _status_error(answer)
                return await self._read(answer, until_read, limit, clock)
        except aiohttp.ConnectionTimeoutError as error:
            raise unreachable(
                f"No connection to Wazzup came about within {_CONNECT:.0f} s; the operator goes on"
                " trying. If this stays, check the network from the operator's pod.",
                "timeout",
            ) from error
        except TimeoutError as error:
            raise unreachable(
                f"Wazzup did not answer within {_TOTAL:.0f} s; the operator goes on trying.",
                "timeout",
            ) from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise unreachable(
                "The certificate of Wazzup's server is not trusted, or TLS failed with it; if a"
                " proxy of yours stands in for it, put that proxy's CA into the file that"
                " SSL_CERT_FILE names in the operator's pod.",
                "connection",
            ) from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise unreachable(
                f"The connection to Wazzup failed ({type(error).__name__}); the operator goes on"
                " trying. If this stays, check the network from the operator's pod.",
                "connection",
            ) from error

    async def _read(
        self,
        answer: aiohttp.ClientResponse,
        until_read: AsyncExitStack,
        limit: asyncio.Timeout,
        clock: "_Clock",
    ) -> bytearray:
        body = bytearray()
        async for chunk in answer.content.iter_any():  # decompressed, a few 100 KiB each
            if len(body) <= _SMALL < len(body) + len(chunk):
                with clock.stopped(limit):
                    await self._wait_for_slot(until_read)
            body += chunk
            if len(body) > MAX_BODY:
                raise unreachable(
                    f"Wazzup's listing is larger than the {MAX_BODY // 2**20} MiB that the operator"
                    " reads.",
                    "too-large",
                )
        return body

    async def _wait_for_slot(self, until_read: AsyncExitStack) -> None:
        try:
            async with asyncio.timeout(_SLOT_TIMEOUT):
                await until_read.enter_async_context(self._large)
        except TimeoutError as error:
            raise unreachable(
                f"Other listings of more than {_SMALL // 2**20} MiB took so long that this one was"
                f" not read within {_SLOT_TIMEOUT:.0f} s; the operator goes on trying.",
                "busy",
            ) from error


class _Clock:
    """The seconds of a request that are Wazzup's."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._ended: float | None = None

    def end(self) -> None:
        """The answer is there; what follows is ours."""
        self._ended = time.monotonic()

    def elapsed(self) -> float:
        return (self._ended or time.monotonic()) - self._started

    @contextmanager
    def stopped(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Let neither this clock nor the limit go on meanwhile."""
        stopped, end = time.monotonic(), limit.when()
        limit.reschedule(None)
        try:
            yield
        finally:
            waited = time.monotonic() - stopped
            self._started += waited
            limit.reschedule(end + waited if end is not None else None)


def _status_error(answer: aiohttp.ClientResponse) -> WazzupError:
    """Return the error for an HTTP status other than 200 (API page "Common errors")."""
    status, code = answer.status, str(answer.status)
    if status == 401:
        return credentials_invalid(
            "Wazzup does not know this API key (401); put a valid one into the Secret, and the"
            " operator takes it up by itself.",
            code,
        )
    if status == 403:
        return credentials_invalid(
            "Wazzup does not let this API key list channels (403); put a key with that right into"
            " the Secret.",
            code,
        )
    if status == 429:
        return unreachable(
            "Wazzup refuses requests for now, as there were too many (429); the operator asks"
            " again later.",
            code,
            _retry_after(answer),
        )
    if 300 <= status < 400:
        return unreachable(
            f"Wazzup redirects to another address ({code}), which is not followed; check the"
            " operator's --wazzup-url.",
            code,
        )
    return unreachable(
        f"Wazzup answered with an error ({code}); the operator goes on trying.",
        code,
        _retry_after(answer),
    )


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110), at most an hour; None if unusable."""
    value = answer.headers.get("Retry-After", "")
    try:
        if value.isascii() and value.isdigit():
            wait = float(value)
        else:
            wait = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):  # no date, or one without a zone
        return None
    return min(max(wait, 0.0), 3600.0)
