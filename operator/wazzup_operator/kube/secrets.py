"""Reads an account's API key. It is kept nowhere."""

import asyncio
import base64
import binascii

from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.resources.account import SecretKeyRef

AT_ONCE = 16
"""Reads under way at once: Secrets that nobody answers for leave connections to everything else."""

SECRET_TIMEOUT = 30.0
"""Seconds that a read waits for its turn: as long as one takes at most."""


class SecretMissing(Exception):
    """There is no Secret to be read, or no such key in it; the message says what to do."""


class KeyUnusable(Exception):
    """What the Secret holds cannot be an API key; the message says what to do."""


class SecretReader:
    """Reads API keys, a bounded number at once."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def read_api_key(self, namespace: str, ref: SecretKeyRef) -> str:
        """Return the API key. Raises SecretMissing, KeyUnusable, KubeError."""
        try:
            async with asyncio.timeout(SECRET_TIMEOUT):
                await self._slots.acquire()
        except TimeoutError as error:
            raise ConnectionFailed("the API server does not answer for others either") from error
        try:
            secret = await self._client.get(path("v1", "secrets", namespace, ref.name))
        except Refused as error:
            if error.status == 404:
                raise SecretMissing(
                    f'There is no Secret "{ref.name}" in this namespace; create it with the API key'
                    f' under "{ref.key}".'
                ) from error
            if error.status == 403:
                raise SecretMissing(
                    f'The operator may not read the Secret "{ref.name}"; grant its service account'
                    " get on it."
                ) from error
            raise
        finally:
            self._slots.release()
        encoded = (secret.get("data") or {}).get(ref.key)
        if encoded is None:
            raise SecretMissing(
                f'The Secret "{ref.name}" has no key "{ref.key}"; put the API key there, or name'
                " another key in spec.apiKeySecretRef."
            )
        return _clean(encoded, ref)


def _clean(encoded: str, ref: SecretKeyRef) -> str:
    try:
        key = base64.b64decode(encoded).decode("ascii").strip()
    except (binascii.Error, UnicodeDecodeError):
        key = "\n"
    if not key:
        raise KeyUnusable(
            f'"{ref.key}" of the Secret "{ref.name}" is empty; put the API key there.'
        )
    if not key.isprintable() or " " in key:
        raise KeyUnusable(
            f'"{ref.key}" of the Secret "{ref.name}" is not an API key, as it has a line break, a'
            " space or a letter outside ASCII in it; put the bare key there."
        )
    return key
