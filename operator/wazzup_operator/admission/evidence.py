"""What a review needs to know of other objects. With least rights: two reads, no watch."""

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
"""Seconds at most that may go into reads: the API server waits 3 s for the whole review."""

lookup_timeout: ContextVar[float] = ContextVar("lookup_timeout", default=LOOKUP_TIMEOUT)
"""Seconds that may go into the reads of this review: its timeout may be shorter."""


class Evidence:
    """Looks up other objects of the namespace; what cannot be learned in time speaks for nobody."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def holders(self, asking: NamespacedName, spec: ChannelSpec) -> list[str]:
        """Return the other objects' names that declare this transport and number, sorted.

        One that is being deleted does not count.
        """
        lists = await asyncio.gather(
            *(
                self._with_number(asking.namespace, f"+{each}")
                for each in spellings(spec.phone_number)
            )
        )
        return sorted(
            item["metadata"]["name"]
            for items in lists
            for item in items
            if item["metadata"]["name"] != asking.name
            and "deletionTimestamp" not in item["metadata"]  # it yields, as it does in the loop
            and item["spec"].get("transport", Transport.WHATSAPP) == spec.transport
        )

    async def account_exists(self, key: NamespacedName) -> bool:
        """Return False only if there surely is no such account."""
        try:
            async with asyncio.timeout(lookup_timeout.get()):
                await self._client.get(path(API_VERSION, account.PLURAL, *key))
        except (KubeError, TimeoutError) as error:
            if isinstance(error, Refused) and error.status == 404:
                return False
            log.warning("an account could not be looked up: %s", error or "no answer in time")
        return True

    async def _with_number(self, namespace: str, number: str) -> list[JSON]:
        """Return what was found in time, if anything: the other spellings count all the same."""
        try:
            async with asyncio.timeout(lookup_timeout.get()):
                found = await self._client.get(
                    path(API_VERSION, channel.PLURAL, namespace),
                    {"fieldSelector": f"spec.phoneNumber={number}"},
                )
        except (KubeError, TimeoutError) as error:
            log.warning("other channels could not be looked up: %s", error or "no answer in time")
            return []
        items: list[JSON] = found["items"]
        return items
