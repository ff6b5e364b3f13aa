"""A review's lookups: a list per spelling of the number, and a read of the account; no watch."""

import asyncio
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

from wazzup_operator.domain.phone import spellings
from wazzup_operator.domain.transport import Transport
from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import KubeError, Refused
from wazzup_operator.observability import metrics
from wazzup_operator.resources import account, channel
from wazzup_operator.resources.base import API_VERSION, GROUP, JSON, NamespacedName
from wazzup_operator.resources.channel import ChannelSpec

log = logging.getLogger(__name__)

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""When lookups of the current review time out, in the event loop's time."""


class Cause(StrEnum):
    """Why a lookup failed."""

    FORBIDDEN = "forbidden"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Holders:
    """The objects with a number that could be looked up."""

    names: list[str]
    failure: str | None = None
    """Why there may be others: a sentence."""


class Lookups:
    """Looks up other objects in the namespace; logs and counts what fails."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        for plural in (channel.PLURAL, account.PLURAL):
            for cause in Cause:
                metrics.webhook_lookup_failures.labels(plural, cause)  # rates start from 0

    async def holders(self, key: NamespacedName, spec: ChannelSpec) -> Holders:
        """Return the sorted names of the other objects with this transport and number.

        Objects that are being deleted do not count.
        """
        results = await asyncio.gather(
            *(self._list(key.namespace, f"+{each}") for each in spellings(spec.phone_number))
        )
        names = sorted(
            item["metadata"]["name"]
            for items in results
            if not isinstance(items, _Failure)
            for item in items
            if item["metadata"]["name"] != key.name
            and "deletionTimestamp"
            not in item["metadata"]  # the controller also ignores objects being deleted
            and item["spec"].get("transport", Transport.WHATSAPP) == spec.transport
        )
        failed = next((each for each in results if isinstance(each, _Failure)), None)
        if failed is None:
            return Holders(names)
        failed.report(f"the WazzupChannels with this number in namespace {key.namespace!r}")
        sentence = f"Cannot look up the WazzupChannels with this number: {failed.reason}."
        return Holders(names, sentence)

    async def account_exists(self, key: NamespacedName) -> bool:
        """Return False only if the API server answers that the account does not exist."""
        try:
            await self._get(path(API_VERSION, account.PLURAL, *key))
        except (KubeError, TimeoutError) as error:
            if isinstance(error, Refused) and error.status == 404:
                return False
            _failure(error, "get", account.PLURAL, key.namespace).report(
                f"WazzupAccount {str(key)!r}"
            )
        return True

    async def _list(self, namespace: str, number: str) -> "list[JSON] | _Failure":
        """List the objects with this spelling of a number."""
        try:
            found = await self._get(
                path(API_VERSION, channel.PLURAL, namespace),
                {"fieldSelector": f"spec.phoneNumber={number}"},
            )
        except (KubeError, TimeoutError) as error:
            return _failure(error, "list", channel.PLURAL, namespace)
        items: list[JSON] = found["items"]
        return items

    async def _get(self, target: str, query: Mapping[str, str] | None = None) -> JSON:
        """GET before the deadline; retry after the API server's Retry-After if that is in time.

        The API server asks for it for a moment after CRDs have changed.
        """
        async with asyncio.timeout_at(deadline.get()) as timeout:
            while True:
                try:
                    return await self._client.get(target, query)
                except Refused as refusal:
                    wait = refusal.retry_after
                    if not wait or not _is_in_time(wait, timeout):
                        raise
                    await asyncio.sleep(wait)


def _is_in_time(wait: float, timeout: asyncio.Timeout) -> bool:
    """Return whether so many seconds from now are within the timeout."""
    end = timeout.when()
    return end is None or asyncio.get_running_loop().time() + wait < end


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed request; `reason` says why, then what to do, without a full stop."""

    plural: str
    cause: Cause
    reason: str

    def report(self, what: str) -> None:
        """Count the lookup, and log what could not be looked up."""
        metrics.webhook_lookup_failures.labels(self.plural, self.cause).inc()
        log.warning("Cannot look up %s: %s", what, self.reason)


def _failure(error: Exception, verb: str, plural: str, namespace: str) -> _Failure:
    if isinstance(error, TimeoutError):
        reason = "the API server did not answer in time; try again"
        return _Failure(plural, Cause.TIMEOUT, reason)
    if not isinstance(error, Refused):
        return _Failure(plural, Cause.UNREACHABLE, f"{error}; try again")
    if error.status != 403:
        return _Failure(plural, Cause.REFUSED, f"{error}; try again")
    reason = (
        f"the webhook may not {verb} {plural}.{GROUP} in namespace {namespace!r}; grant its"
        " service account this permission"
    )
    return _Failure(plural, Cause.FORBIDDEN, reason)
