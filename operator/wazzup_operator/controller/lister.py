"""Lists an account: reads the API key, asks Wazzup, remembers the answer."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from wazzup_operator.backoff import Backoff
from wazzup_operator.controller.clock import loop_time
from wazzup_operator.controller.dependencies import Dependencies
from wazzup_operator.controller.memory import AccountMemory
from wazzup_operator.domain.listing import Listing, Number
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.kube.errors import Deposed, KubeError, Refused
from wazzup_operator.kube.secrets import KeyUnusable, SecretMissing
from wazzup_operator.reconcile.observation import Trouble
from wazzup_operator.resources.account import SecretKeyRef, WazzupAccount
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.wazzup.errors import WazzupError

log = logging.getLogger(__name__)

MAX_KEY_AGE = 30.0
"""Seconds after which a Secret is read again. With 1,000 accounts listed every 10 s, reading it
each time takes a fifth of the CPU, and the API server logs 100 reads of Secrets per second."""

_BACKOFF = (1.0, 60.0)
"""Minimum and maximum seconds between two attempts to read a Secret that failed."""

_SILENT_RETRIES = 3
"""How many failed reads of a Secret are retried before the account's status reports them."""

_SILENT_WAIT = 10.0
"""Maximum Retry-After in seconds that is waited for before the account's status reports it."""


class SecretUnavailable(Exception):
    """The Secret could not be read, and a retry after `seconds` may succeed."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


@dataclass(frozen=True, slots=True, repr=False)
class _Key:
    """An API key, the account and Secret that it was read for, and when (monotonic seconds)."""

    text: str
    source: tuple[str, SecretKeyRef]
    read_at: float


class AccountLister:
    """Lists the channels of one account into its memory."""

    def __init__(self, key: NamespacedName, deps: Dependencies, memory: AccountMemory) -> None:
        self._key = key
        self._deps = deps
        self._memory = memory
        self._backoff = Backoff(*_BACKOFF)
        self._api_server_unreachable = False
        """Whether the last failed read of the Secret got no answer."""

        self._digest = b""
        self._held: _Key | None = None
        """The key last read; None if the Secret must be read again."""

        self._timed_out = False
        """Whether the last answer of Wazzup did not come in time."""

        self._ambiguous: tuple[frozenset[str], frozenset[Number]] = (frozenset(), frozenset())

    @property
    def retries_secret(self) -> bool:
        """Whether the Secret has to be read before anything else.

        True until the status reports that the API server refuses it. After the API server was
        unreachable, the first status written must use neither an old listing nor the outage.
        """
        reported = self._memory.failures > 0 and not self._api_server_unreachable
        return self._backoff.failures > 0 and not reported

    async def list(self, account: WazzupAccount, *, changed: bool) -> None:
        """List the channels, or remember why that failed. Raises SecretUnavailable.

        `changed`: an object has changed, or a user asks for a listing; perhaps for another key.
        """
        try:
            listing = await self._list_with_key(account, changed)
        except SecretMissing as error:
            self._memory.failed(Trouble(Reason.SECRET_NOT_FOUND, str(error)), loop_time())
        except KeyUnusable as error:
            self._memory.failed(Trouble(Reason.CREDENTIALS_INVALID, str(error)), loop_time())
        except WazzupError as error:
            trouble = Trouble(error.reason, str(error))
            self._memory.failed(trouble, loop_time(), error.retry_after)
            if error.code != "busy":  # that is the fault of other accounts
                self._timed_out = error.code == "timeout"
        except KubeError as error:
            self._secret_failed(account, error)
            return
        else:
            self._answered(account, listing)
        self._backoff.succeed()

    async def _list_with_key(self, account: WazzupAccount, changed: bool) -> Listing:
        """List the channels; read the Secret first if it may have changed."""
        held = self._held
        if held is None or changed or not self._is_recent(held, account):
            return await self._list_channels(await self._read_key(account))
        try:
            return await self._list_channels(held.text)
        except WazzupError as error:
            if error.reason is not Reason.CREDENTIALS_INVALID:
                raise
            key = await self._read_key(account)
            if key == held.text:
                raise
        return await self._list_channels(key)

    def _is_recent(self, held: _Key, account: WazzupAccount) -> bool:
        return held.source == _source(account) and loop_time() < held.read_at + MAX_KEY_AGE

    async def _list_channels(self, key: str) -> Listing:
        return await self._deps.wazzup.list_channels(
            key, self._memory.listing, slow=self._timed_out
        )

    async def _read_key(self, account: WazzupAccount) -> str:
        """Read the key from the Secret. Another key may be that of another account in Wazzup."""
        self._held, started = None, loop_time()
        ref = account.spec.api_key_secret_ref
        key = await self._deps.secrets.read_api_key(account.metadata.namespace, ref)
        digest = blake2b(key.encode(), digest_size=16).digest()
        if digest != self._digest:
            self._memory.key_changed()
        self._digest = digest
        self._held = _Key(key, _source(account), started)
        return key

    def _secret_failed(self, account: WazzupAccount, error: KubeError) -> None:
        """Remember a lasting failure. Raises SecretUnavailable if it may be temporary."""
        asked = (error.retry_after or 0.0) if isinstance(error, Refused) else 0.0
        if not isinstance(error, Deposed):
            self._api_server_unreachable = not isinstance(error, Refused)
        silent = self._backoff.failures < _SILENT_RETRIES and asked <= _SILENT_WAIT
        wait = self._backoff.fail()
        if silent or isinstance(error, Deposed):
            raise SecretUnavailable(max(wait, asked)) from error
        name = account.spec.api_key_secret_ref.name
        why = f"{error}: {error.text}" if isinstance(error, Refused) else str(error)
        sentence = f'The Secret "{name}" cannot be read: {why}.'
        self._memory.failed(Trouble(Reason.ACCOUNT_UNREACHABLE, sentence), loop_time(), asked)

    def _answered(self, account: WazzupAccount, listing: Listing) -> None:
        self._timed_out = False
        now, wall = loop_time(), self._deps.clock()
        if not self._memory.ignores(listing, self._recorded(), account, now, wall):
            self._memory.succeeded(listing, self._recorded(), now, wall)
            self._log_ambiguous(listing)

    def _recorded(self) -> Iterable[str]:
        """Return the channel ids in the objects' statuses."""
        channels = self._deps.store.channels_of(self._key)
        return filter(None, (channel.recorded.channel_id for channel in channels))

    def _log_ambiguous(self, listing: Listing) -> None:
        ambiguous = (listing.ambiguous_ids, listing.ambiguous_numbers)
        if ambiguous == self._ambiguous:
            return
        self._ambiguous = ambiguous
        if not any(ambiguous):
            log.info("account %s: no row of the listing is ambiguous now", self._key)
        else:
            log.warning(
                "account %s: the listing has %d ambiguous ids and %d ambiguous numbers; their"
                " objects keep their state",
                self._key,
                *map(len, ambiguous),
            )


def _source(account: WazzupAccount) -> tuple[str, SecretKeyRef]:
    return account.metadata.uid, account.spec.api_key_secret_ref
