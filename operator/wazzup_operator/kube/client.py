"""Requests to the API server, on the official client's configuration, TLS and authentication.

The generated methods and models of `kubernetes.aio` are not used: they cost several times what the
raw requests do.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson
import yaml
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import (
    ConfigException,
    load_incluster_config,
    load_kube_config,
    refresh_token,
)

from wazzup_operator.kube.errors import (
    ConfigurationMissing,
    ConnectionFailed,
    Deposed,
    Expired,
    Refused,
)
from wazzup_operator.proxy import proxy_for
from wazzup_operator.resources.base import JSON

log = logging.getLogger(__name__)

NO_API_SERVER = "what answered is no API server"

_TIMEOUT = 30.0
_CONNECTIONS = 64
_UNUSABLE = (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError, LookupError)
"""What the official client raises over a kubeconfig that is not there, or is none."""

_FAILURES = (
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    orjson.JSONDecodeError,
    ConfigException,  # the service account's token is being replaced
)

_LONGEST_WAIT = 120.0
"""Seconds of a Retry-After that are believed: slow answers besides make no loop count as hung."""


class RestObserver(Protocol):
    """Is told of each request: its method, the code of the answer ("<error>" without one)."""

    def __call__(self, method: str, code: str, host: str, duration: float) -> None:
        """Take note of one request; duration in seconds until the answer began."""


def path(group_version: str, plural: str, namespace: str | None = None, *rest: str) -> str:
    """Return the path of a resource; rest is the name and a subresource.

    Names come from users, and none may lead to another path: raises Refused (404) for those that
    no object can have.
    """
    root = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
    scope = "" if namespace is None else f"/namespaces/{_segment(namespace)}"
    return "/".join([f"{root}{scope}/{plural}", *map(_segment, rest)])


def _segment(name: str) -> str:
    if name in {"", ".", ".."} or "/" in name:
        raise Refused(404, f"no object can be called {name!r}")
    return quote(name, safe="")


Allowance = Callable[[], float]
"""Returns for how many seconds from now requests may be under way."""


def _unlimited() -> float:
    return float("inf")


_allowed: ContextVar[Allowance] = ContextVar("allowed", default=_unlimited)
"""The allowance of the request that is being sent."""


class _FencedRequest(aiohttp.ClientRequest):
    """A request that looks at its allowance in the last instant before it is on its way.

    A process may be stopped between any two steps, and when it goes on, what is ready to run comes
    before the timeouts that are over. What an object's version does not protect is the status that
    the successor found right and had not to write.
    """

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write the body, and the headers with it."""
        if _allowed.get()() <= 0 and conn.protocol is not None:
            conn.protocol.set_exception(aiohttp.ClientConnectionError("nothing may be sent"))
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
        """Return a client of the cluster around the process, or of the kubeconfig.

        `watches` is how many connections are held besides those of single requests. Raises
        ConfigurationMissing. Sends no request.
        """
        configuration = Configuration()
        kubeconfig = os.environ.get("KUBECONFIG")
        try:
            if os.environ.get("KUBERNETES_SERVICE_HOST") and not kubeconfig:
                load_incluster_config(client_configuration=configuration)
                loader = None
            else:
                files = _existing(kubeconfig or "~/.kube/config")
                loader = await load_kube_config(files, client_configuration=configuration)
            # Looking for proxies and netrc on every request costs more than the request.
            configuration.client_session_kwargs = {
                "trust_env": False,
                "request_class": _FencedRequest,
            }
            if loader is not None:  # a Pod's proxy leads out of the cluster
                configuration.proxy = configuration.proxy or proxy_for(configuration.host)
            configuration.connection_pool_maxsize = _CONNECTIONS + watches
            client = cls(ApiClient(configuration), observe)
        except _UNUSABLE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigurationMissing(
                f"There is no way to the API server: {reason}. Run in a cluster, or point"
                " KUBECONFIG to a valid kubeconfig file."
            ) from error
        if loader is not None:
            client._refresher = asyncio.create_task(_keep_token_fresh(loader, configuration))
        return client

    async def close(self) -> None:
        """Close the connections."""
        if self._refresher:
            self._refresher.cancel()
        await self._api.close()

    async def access(self) -> tuple[Configuration, str | None]:
        """Return the way to the API server and the Authorization header of this moment, if any.

        For those who cannot send their requests through this client.
        """
        headers: dict[str, str] = {}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], "/", "GET", None)
        return self._api.configuration, headers.get("authorization")

    def within(self, allowance: Allowance) -> "KubeClient":
        """Return the same client for one who may send requests only for a time, such as a leader.

        Beyond it they raise Deposed, and none is under way any more: its timeout ends there too,
        also for a process that was stopped in the middle of it. Watches are not limited.
        """
        return KubeClient(self._api, self._observe, allowance)

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> JSON:
        """Return the object or list at the path. Raises KubeError."""
        return await self._request("GET", path, query)

    async def create(self, path: str, body: JSON) -> JSON:
        """POST the object and return what was stored. Raises KubeError."""
        return _stored(await self._request("POST", path, body=body))

    async def merge_patch(self, path: str, body: JSON) -> JSON:
        """PATCH by RFC 7386 and return what was stored. Raises KubeError."""
        return _stored(
            await self._request(
                "PATCH", path, body=body, content_type="application/merge-patch+json"
            )
        )

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
            raise Deposed("this replica does not lead any more")
        _allowed.set(self._allowance)
        async with self._send(
            method, path, query, body, content_type, aiohttp.ClientTimeout(total=timeout)
        ) as answer:
            return _object(orjson.loads(await answer.read()))

    @asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str], read_timeout: float
    ) -> AsyncIterator[AsyncIterator[JSON]]:
        """Open a watch; what comes is its events, until the API server ends it.

        `read_timeout` is how many seconds without a byte are taken for a dead connection. Raises
        KubeError, Expired among them.
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
        headers = {"Accept": "application/json", "Content-Type": content_type}
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
                f"the API server could not be reached or broke off ({type(error).__name__})"
            ) from error
        finally:
            if answer is not None:
                answer.release()


async def _keep_token_fresh(loader: object, configuration: Configuration) -> None:
    while True:
        try:
            await refresh_token(loader, configuration)
            return  # such credentials need no refreshing
        except Exception as error:
            log.warning("the token of the kubeconfig could not be refreshed: %s", error)
            await asyncio.sleep(_TIMEOUT)


def _existing(kubeconfig: str) -> str:
    files = [os.path.expanduser(file) for file in kubeconfig.split(os.pathsep)]
    if not any(os.path.exists(file) for file in files):
        raise FileNotFoundError(f"there is no file {kubeconfig}")
    return os.pathsep.join(files)


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
    """Return what an API server answers with; what stands in its way may answer anything."""
    if isinstance(parsed, dict) and isinstance(parsed.get("kind"), str):
        return parsed
    raise ConnectionFailed(NO_API_SERVER)


def _stored(answer: JSON) -> JSON:
    metadata, status = answer.get("metadata"), answer.get("status", {})
    if isinstance(metadata, dict) and "resourceVersion" in metadata and isinstance(status, dict):
        return answer
    raise ConnectionFailed(NO_API_SERVER)


async def _error_of(answer: aiohttp.ClientResponse) -> Expired | Refused:
    body = await answer.read()
    try:
        message = str(orjson.loads(body)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = body[:200].decode(errors="replace")
    if answer.status == 410:
        return Expired(message)
    wait = answer.headers.get("Retry-After", "")
    return Refused(
        answer.status,
        f"the API server refused ({answer.status}): {message}",
        min(float(wait), _LONGEST_WAIT) if wait.isascii() and wait.isdigit() else None,
    )
