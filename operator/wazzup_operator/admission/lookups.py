"""A review's lookups: a list per spelling of the number, and a read of the account; no watch."""

import asyncio
import logging
from contextvars import ContextVar

from wazzup_operator.domain.phone import spellings
from wazzup_operator.domain.transport import Transport
from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import KubeError, Refused
from wazzup_operator.resources import account, channel
from wazzup_operator.resources.base import API_VERSION, JSON, NamespacedName
from wazzup_operator.resources.channel import ChannelSpec

log = logging.getLogger(__name__)

LOOKUP_TIMEOUT = 2.0
"""Maximum seconds for a lookup. The API server waits 3 s for the whole review."""

lookup_timeout: ContextVar[float] = ContextVar("lookup_timeout", default=LOOKUP_TIMEOUT)
"""Seconds for a lookup of the current review; less if the API server waits less."""


class Lookups:
    """Looks up other objects in the namespace. A lookup that fails lets the object through."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def holders(self, key: NamespacedName, spec: ChannelSpec) -> list[str]:
        """Return the sorted names of the other objects with this transport and number.

        Objects that are being deleted do not count.
        """
        lists = await asyncio.gather(
            *(self._with_number(key.namespace, f"+{each}") for each in spellings(spec.phone_number))
        )
        return sorted(
            item["metadata"]["name"]
            for items in lists
            for item in items
            if item["metadata"]["name"] != key.name
            and "deletionTimestamp"
            not in item["metadata"]  # the controller also ignores objects being deleted
            and item["spec"].get("transport", Transport.WHATSAPP) == spec.transport
        )

    async def account_exists(self, key: NamespacedName) -> bool:
        """Return False only if the API server answers that the account does not exist."""
        try:
            async with asyncio.timeout(lookup_timeout.get()):
                await self._client.get(path(API_VERSION, account.PLURAL, *key))
        except (KubeError, TimeoutError) as error:
            if isinstance(error, Refused) and error.status == 404:
                return False
            log.warning(
                "Cannot look up WazzupAccount %r: %s; assuming that it exists",
                str(key),
                error or "timed out",
            )
        return True

    async def _with_number(self, namespace: str, number: str) -> list[JSON]:
        """List the objects with this spelling of a number; none if the lookup fails."""
        try:
            async with asyncio.timeout(lookup_timeout.get()):
                found = await self._client.get(
                    path(API_VERSION, channel.PLURAL, namespace),
                    {"fieldSelector": f"spec.phoneNumber={number}"},
                )
        except (KubeError, TimeoutError) as error:
            log.warning(
                "Cannot look up the WazzupChannels with this number in namespace %r: %s;"
                " assuming that there are none",
                namespace,
                error or "timed out",
            )
            return []
        items: list[JSON] = found["items"]
        return items
