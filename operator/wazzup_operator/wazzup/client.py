"""HTTP client of Wazzup's public API v3: `GET /v3/channels`, all that the operator needs."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

import aiohttp

from wazzup_operator.domain.api_key import rejection
from wazzup_operator.domain.listing import EMPTY, Listing
from wazzup_operator.proxy import proxy_for
from wazzup_operator.wazzup.errors import WazzupError, credentials_invalid, unreachable
from wazzup_operator.wazzup.wire import read_listing

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a listing, decompressed. A larger one is refused."""

MAX_REQUESTS = 128
"""Concurrent requests of all accounts: each takes a file descriptor."""

MAX_SLOW_REQUESTS = 32
"""How many of these are for accounts whose last request timed out, so that they leave slots to the
others."""

_SMALL_BODY = 1024 * 1024
"""Bytes of an answer that is read without a slot and parsed in the event loop."""

_LARGE_BODIES = 4
"""How many larger answers are read at once, which bounds the memory of all accounts together."""

_TOTAL_TIMEOUT, _CONNECT_TIMEOUT = 30.0, 10.0
"""Seconds for a whole answer, and for the connection."""

_SLOT_TIMEOUT = 120.0
"""Seconds to wait for a slot; they do not count as Wazzup's response time."""

_CHECK_NETWORK = "If this persists, check the network of the operator's pod."


class WazzupObserver(Protocol):
    """Callback for metrics, called once per request."""

    def __call__(self, operation: str, code: str, duration: float) -> None:
        """Record the operation, the code of the answer and its duration in seconds."""


class WazzupClient:
    """Lists an account's channels with its API key.

    All accounts share one session, so it keeps no cookies. Proxies are read from the environment
    once, at startup (HTTPS_PROXY, HTTP_PROXY, NO_PROXY); a netrc is ignored, since its credentials
    would replace the API key. TLS is verified. Redirects are not followed: they would send the API
    key to another host.
    """

    def __init__(self, base_url: str, observe: WazzupObserver) -> None:
        self._url = f"{base_url.rstrip('/')}/v3/channels"
        self._proxy = proxy_for(base_url)
        self._observe = observe
        self._requests = asyncio.Semaphore(MAX_REQUESTS)
        self._slow_requests = asyncio.Semaphore(MAX_SLOW_REQUESTS)
        self._large_bodies = asyncio.Semaphore(_LARGE_BODIES)
        self._parsing = asyncio.Lock()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_REQUESTS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(connect=_CONNECT_TIMEOUT),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def list_channels(
        self, api_key: str, previous: Listing = EMPTY, *, slow: bool = False
    ) -> Listing:
        """Return the account's listing, `previous` if nothing differs. Raises only WazzupError.

        `slow`: the account's last request timed out.
        """
        stopwatch = _Stopwatch()
        code = "200"
        try:
            async with AsyncExitStack() as slots:
                if slow:
                    await _wait_for(self._slow_requests, slots)
                await _wait_for(self._requests, slots)
                stopwatch.start()
                body = await self._get(api_key, slots, stopwatch)
                stopwatch.stop()
                if len(body) <= _SMALL_BODY:
                    return read_listing(body, previous)
                # A large body would block the event loop for a second. One at a time, because
                # each takes much memory.
                async with self._parsing:
                    return await asyncio.to_thread(read_listing, body, previous)
        except WazzupError as error:
            code = error.code
            raise
        finally:
            self._observe("list_channels", code, stopwatch.elapsed())

    async def download(self, api_key: str) -> bytearray:
        """Return the account's listing as Wazzup sends it. Raises only WazzupError."""
        async with AsyncExitStack() as slots:
            return await self._get(api_key, slots, _Stopwatch())

    async def _get(self, api_key: str, slots: AsyncExitStack, stopwatch: "_Stopwatch") -> bytearray:
        headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        try:
            async with (
                asyncio.timeout(_TOTAL_TIMEOUT) as timeout,
                self._session.get(
                    self._url, headers=headers, proxy=self._proxy, allow_redirects=False
                ) as answer,
            ):
                if answer.status != 200:
                    raise _status_error(answer, api_key)
                return await self._read(answer, slots, timeout, stopwatch)
        except aiohttp.ConnectionTimeoutError as error:
            raise unreachable(
                f"Connecting to Wazzup timed out after {_CONNECT_TIMEOUT:.0f} s; the operator keeps"
                f" retrying. {_CHECK_NETWORK}",
                "timeout",
            ) from error
        except TimeoutError as error:
            raise unreachable(
                f"Wazzup did not answer within {_TOTAL_TIMEOUT:.0f} s; the operator keeps"
                " retrying.",
                "timeout",
            ) from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise unreachable(
                "TLS with Wazzup failed, or its certificate is not trusted. If a proxy intercepts"
                " TLS, add its CA to the file that SSL_CERT_FILE names in the operator's pod.",
                "connection",
            ) from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise unreachable(
                f"The connection to Wazzup failed ({type(error).__name__}); the operator keeps"
                f" retrying. {_CHECK_NETWORK}",
                "connection",
            ) from error

    async def _read(
        self,
        answer: aiohttp.ClientResponse,
        slots: AsyncExitStack,
        timeout: asyncio.Timeout,
        stopwatch: "_Stopwatch",
    ) -> bytearray:
        body = bytearray()
        async for chunk in answer.content.iter_any():  # decompressed, a few 100 KiB each
            if len(body) <= _SMALL_BODY < len(body) + len(chunk):
                with stopwatch.paused(timeout):
                    await _wait_for(self._large_bodies, slots)
            body += chunk
            if len(body) > MAX_BODY:
                raise unreachable(
                    f"Wazzup's listing exceeds the operator's limit of {MAX_BODY // 2**20} MiB.",
                    "too-large",
                )
        return body


async def _wait_for(slot: asyncio.Semaphore, slots: AsyncExitStack) -> None:
    """Acquire a slot; `slots` releases it."""
    if not slot.locked():
        await slots.enter_async_context(slot)
        return
    try:
        async with asyncio.timeout(_SLOT_TIMEOUT):
            await slots.enter_async_context(slot)
    except TimeoutError as error:
        raise unreachable(
            f"This listing waited {_SLOT_TIMEOUT:.0f} s for those of other accounts, which are too"
            " large or too slow; the operator keeps retrying.",
            "busy",
        ) from error


class _Stopwatch:
    """Measures Wazzup's share of a request, in seconds: 0 before `start`."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._ended: float | None = self._started

    def start(self) -> None:
        self._started, self._ended = time.monotonic(), None

    def stop(self) -> None:
        self._ended = time.monotonic()

    def elapsed(self) -> float:
        ended = time.monotonic() if self._ended is None else self._ended
        return ended - self._started

    @contextmanager
    def paused(self, timeout: asyncio.Timeout) -> Iterator[None]:
        """Pause the stopwatch and the timeout."""
        paused, end = time.monotonic(), timeout.when()
        timeout.reschedule(None)
        try:
            yield
        finally:
            waited = time.monotonic() - paused
            self._started += waited
            timeout.reschedule(end + waited if end is not None else None)


def _status_error(answer: aiohttp.ClientResponse, api_key: str) -> WazzupError:
    """Return the error for an HTTP status other than 200 (API page "Common errors")."""
    status, code = answer.status, str(answer.status)
    if status == 401:
        return credentials_invalid(
            f"{rejection(api_key)} Put a valid key into the Secret; the operator picks it up by"
            " itself.",
            code,
        )
    if status == 403:
        return credentials_invalid(
            "Wazzup does not allow this API key to list channels (403). Put a key with that"
            " permission into the Secret.",
            code,
        )
    if status == 429:
        return unreachable(
            "Wazzup is rate limiting: there were too many requests (429). The operator retries"
            " later.",
            code,
            _retry_after(answer),
        )
    if 300 <= status < 400:
        return unreachable(
            f"Wazzup redirects to another address ({code}), which the operator does not follow."
            " Check the operator's --wazzup-url.",
            code,
        )
    if status == 404:
        return unreachable(
            "There is no list of channels at this address (404). Check the operator's"
            " --wazzup-url.",
            code,
        )
    return unreachable(
        f"Wazzup answered with an error ({code}); the operator keeps retrying.",
        code,
        _retry_after(answer),
    )


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110), at most an hour; None if invalid."""
    value = answer.headers.get("Retry-After", "")
    try:
        if value.isascii() and value.isdigit():
            wait = float(value)
        else:
            wait = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):  # not a date, or without a time zone
        return None
    return min(max(wait, 0.0), 3600.0)
