"""Raw requests to the API server, with the official client's configuration, TLS and authentication.

The generated methods and models of `kubernetes.aio` cost several times as much.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException

from wazzup_operator.kube.access import UNUSABLE, load_access
from wazzup_operator.kube.errors import (
    ConfigurationMissing,
    ConnectionFailed,
    Deposed,
    Refused,
    TooLarge,
)
from wazzup_operator.resources.base import JSON

NO_API_SERVER = "the answer does not come from a Kubernetes API server"

FIELD_MANAGER = "wazzup-operator"
"""The name under which managedFields lists what this process wrote."""

_USER_AGENT = f"wazzup-operator/{version('wazzup-operator')}"
_TIMEOUT = 30.0
_CONNECTIONS = 64
MAX_ANSWER = 8 * 2**20
"""Bytes of an answer, decompressed; the largest object has 3 MiB. Parsed, it takes several times as
much memory."""

_FAILURES = (
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    orjson.JSONDecodeError,
    ConfigException,  # the service account's token is being replaced
)

_LONGEST_TEXT = 1000
"""Characters of a refusal's text that are kept: an admission webhook may send megabytes."""

_LONGEST_WAIT = 120.0
"""Maximum seconds of a Retry-After; a longer wait could make a loop look stuck."""


class RestObserver(Protocol):
    """Called once for each request. `code` is the HTTP status, "<error>" without an answer."""

    def __call__(self, method: str, code: str, host: str, duration: float) -> None:
        """Record one request; `duration` is in seconds, until the answer's headers arrived."""


def path(group_version: str, plural: str, namespace: str | None = None, *rest: str) -> str:
    """Return the path of a resource; `rest` is a name and a subresource.

    Names come from users and must not lead to another path. Raises Refused (404) for a name that
    no object can have.
    """
    root = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
    scope = "" if namespace is None else f"/namespaces/{_segment(namespace)}"
    return "/".join([f"{root}{scope}/{plural}", *map(_segment, rest)])


def _segment(name: str) -> str:
    if name in {"", ".", ".."} or "/" in name:
        raise Refused(404, f"{name!r} is not a valid object name")
    return quote(name, safe="")


Allowance = Callable[[], float]
"""Returns for how many seconds from now requests may be in flight."""


def _unlimited() -> float:
    return float("inf")


_allowed: ContextVar[Allowance] = ContextVar("allowed", default=_unlimited)
"""The allowance of the request being sent."""


class _FencedRequest(aiohttp.ClientRequest):
    """A request that checks its allowance immediately before it is sent.

    A process may be suspended at any point, and on resuming, asyncio runs ready callbacks before
    expired timeouts. The resourceVersion does not protect a status that the next leader found
    correct and therefore did not write.
    """

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Send the headers and the body."""
        if _allowed.get()() <= 0 and conn.protocol is not None:
            conn.protocol.set_exception(aiohttp.ClientConnectionError("no longer the leader"))
            conn.close()
            return
        await super().write_bytes(writer, conn, content_length)


class KubeClient:
    """One connection pool to one API server."""

    def __init__(
        self, api: ApiClient, observe: RestObserver, allowance: Allowance = _unlimited
    ) -> None:
        self._api = api
        self._observe = observe
        self._allowance = allowance
        self._host = urlsplit(api.configuration.host).netloc
        self._refresher: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, observe: RestObserver, watches: int = 0) -> "KubeClient":
        """Return a client configured from the cluster this process runs in, or from a kubeconfig.

        `watches` is the number of connections for watches, in addition to those for single
        requests. Raises ConfigurationMissing. Sends no request.
        """
        try:
            configuration, renewal = await load_access()
            # Looking up proxies and netrc for every request costs more than the request.
            configuration.client_session_kwargs = {
                "trust_env": False,
                "request_class": _FencedRequest,
            }
            configuration.connection_pool_maxsize = _CONNECTIONS + watches
            client = cls(ApiClient(configuration), observe)
        except UNUSABLE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigurationMissing(
                f"Cannot configure access to the API server: {reason}. Run in a cluster, or set"
                " KUBECONFIG to the path of a valid kubeconfig."
            ) from error
        if renewal is not None:
            client._refresher = asyncio.create_task(renewal)
        return client

    async def close(self) -> None:
        """Close the connections."""
        if self._refresher:
            self._refresher.cancel()
        await self._api.close()

    async def access(self) -> tuple[Configuration, str | None]:
        """Return the configuration and the current Authorization header, if any.

        For code that cannot send its requests through this client.
        """
        headers: dict[str, str] = {}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], "/", "GET", None)
        return self._api.configuration, headers.get("authorization")

    def within(self, allowance: Allowance) -> "KubeClient":
        """Return a client on the same connections whose requests end within the allowance.

        For code that acts only while this replica leads. Afterwards its requests raise Deposed and
        none is in flight, even if the process was suspended meanwhile. Watches are not limited.
        """
        return KubeClient(self._api, self._observe, allowance)

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> JSON:
        """Return the object or list at the path. Raises KubeError."""
        return await self._request("GET", path, query)

    async def create(self, path: str, body: JSON) -> JSON:
        """POST the object and return what was stored. Raises KubeError."""
        return _stored(await self._write("POST", path, body, "application/json"))

    async def merge_patch(self, path: str, body: JSON) -> JSON:
        """Send an RFC 7386 merge patch and return what was stored. Raises KubeError."""
        return _stored(await self._write("PATCH", path, body, "application/merge-patch+json"))

    async def _write(self, method: str, path: str, body: JSON, content_type: str) -> JSON:
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request(method, path, query, body, content_type)

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: JSON | None = None,
        content_type: str = "application/json",
    ) -> JSON:
        timeout = min(_TIMEOUT, self._allowance())
        if timeout <= 0:
            raise Deposed("this replica is no longer the leader")
        _allowed.set(self._allowance)
        async with self._send(
            method, path, query, body, content_type, aiohttp.ClientTimeout(total=timeout)
        ) as answer:
            return _object(orjson.loads(await _body(answer)))

    @asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str], read_timeout: float
    ) -> AsyncIterator[AsyncIterator[JSON]]:
        """Open a watch and yield its events until the API server ends it.

        After `read_timeout` seconds without a byte the connection counts as dead. Raises KubeError.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=read_timeout)
        async with self._send("GET", path, query, None, "application/json", timeout) as answer:
            yield _events(answer)

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: JSON | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {
            "Accept": "application/json",
            "Content-Type": content_type,
            "User-Agent": _USER_AGENT,
        }
        url = f"{self._api.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        started = time.monotonic()
        code = "<error>"
        answer: aiohttp.ClientResponse | None = None
        try:
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            response = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
            answer = response.response
            code = str(answer.status)
            self._observe(method, code, self._host, time.monotonic() - started)
            if answer.status >= 400:
                raise await _error_of(answer)
            yield answer
        except _FAILURES as error:
            if answer is None:
                self._observe(method, code, self._host, time.monotonic() - started)
            raise ConnectionFailed(
                f"the API server is unreachable or closed the connection ({type(error).__name__})"
            ) from error
        finally:
            if answer is not None:
                answer.release()


async def _body(answer: aiohttp.ClientResponse) -> bytearray:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise TooLarge(f"the answer has more than {MAX_ANSWER // 2**20} MiB")
    return body


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[JSON]:
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            event = orjson.loads(line)
            if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
                raise ConnectionFailed(NO_API_SERVER)
            yield event


def _object(parsed: Any) -> JSON:
    """Check that a Kubernetes API server answered, and not a proxy in between."""
    if isinstance(parsed, dict) and isinstance(parsed.get("kind"), str):
        return parsed
    raise ConnectionFailed(NO_API_SERVER)


def _stored(answer: JSON) -> JSON:
    metadata, status = answer.get("metadata"), answer.get("status", {})
    if isinstance(metadata, dict) and "resourceVersion" in metadata and isinstance(status, dict):
        return answer
    raise ConnectionFailed(NO_API_SERVER)


async def _error_of(answer: aiohttp.ClientResponse) -> Refused:
    body = await answer.read()
    try:
        text = str(orjson.loads(body)["message"])[:_LONGEST_TEXT]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = body[:200].decode(errors="replace")
    wait = answer.headers.get("Retry-After", "")
    return Refused(
        answer.status,
        text,
        min(float(wait), _LONGEST_WAIT) if wait.isascii() and wait.isdigit() else None,
    )
