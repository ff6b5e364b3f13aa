"""Reads API keys from Secrets. A key is never logged."""

import asyncio
import base64
import binascii
from collections.abc import Collection
from contextlib import AsyncExitStack

from wazzup_operator.domain.api_key import NotAnApiKey, clean
from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.kube.slots import Slots
from wazzup_operator.resources.account import SecretKeyRef
from wazzup_operator.resources.base import JSON

MAX_IN_FLIGHT = 16
"""Concurrent reads: reads that hang must leave connections for everything else."""

SECRET_TIMEOUT = 30.0
"""Seconds that a read waits for a slot: the timeout of one request."""

_KEYS_NAMED = 5


class SecretMissing(Exception):
    """The Secret or the key in it is missing or not readable; the message says what to do."""


class KeyUnusable(Exception):
    """The Secret's value cannot be an API key; the message says what to do."""


class SecretReader:
    """Reads API keys, at most MAX_IN_FLIGHT at once."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._slots = Slots(MAX_IN_FLIGHT)

    async def read_api_key(self, namespace: str, ref: SecretKeyRef) -> str:
        """Return the API key. Raises SecretMissing, KeyUnusable, KubeError."""
        async with AsyncExitStack() as slot:
            try:
                async with asyncio.timeout(SECRET_TIMEOUT):
                    await slot.enter_async_context(self._slots.acquire(namespace))
            except TimeoutError as error:
                message = "the API server does not answer other reads either"
                raise ConnectionFailed(message) from error
            secret = await self._read(namespace, ref)
        data = secret.get("data") or {}
        if ref.key not in data:
            others = _named(data)
            raise SecretMissing(
                f'The Secret "{ref.name}" has no key "{ref.key}", {others}. Put the API key there,'
                " or set spec.apiKeySecretRef.key to the right one."
            )
        return _clean(data[ref.key], ref)

    async def _read(self, namespace: str, ref: SecretKeyRef) -> JSON:
        try:
            return await self._client.get(path("v1", "secrets", namespace, ref.name))
        except Refused as error:
            if error.status == 404:
                raise SecretMissing(
                    f'The Secret "{ref.name}" does not exist in this namespace. Create it with the'
                    f' API key under "{ref.key}".'
                ) from error
            if error.status == 403:
                raise SecretMissing(
                    f'The operator may not read the Secret "{ref.name}". Add "{ref.name}" to the'
                    " chart value rbac.secretNames, or allow the controller's service account to"
                    " get it."
                ) from error
            raise


def _named(keys: Collection[str]) -> str:
    """Return the names of a Secret's keys, the first few."""
    if not keys:
        return "nor any other"
    names = [f'"{each}"' for each in sorted(keys)[:_KEYS_NAMED]]
    more = ["…"] if len(keys) > _KEYS_NAMED else []
    return "only " + ", ".join(names + more)


def _clean(encoded: str, ref: SecretKeyRef) -> str:
    try:
        value = base64.b64decode(encoded)
    except binascii.Error:
        value = encoded.encode()
    try:
        return clean(value, f'The key "{ref.key}" of the Secret "{ref.name}"')
    except NotAnApiKey as error:
        raise KeyUnusable(str(error)) from error
