"""The informers' copy of both kinds, with indexes."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Generic, TypeVar

from wazzup_operator.resources.account import WazzupAccount
from wazzup_operator.resources.base import REQUESTED_AT, NamespacedName, ObjectMeta
from wazzup_operator.resources.channel import WazzupChannel

T = TypeVar("T", WazzupChannel, WazzupAccount)
U = TypeVar("U")

Changed = Callable[[T | None, T | None], None]
"""Called with the old and the new version; None for an object that is new or deleted."""

Wake = Callable[[NamespacedName, bool], None]
"""Called when an account needs a pass; True if a user requested a listing."""

STEP = 1000
"""How many objects are stored or removed before other tasks run: about 10 milliseconds."""


class Table(Generic[T]):
    """The objects of one kind."""

    def __init__(self, on_change: Changed[T]) -> None:
        self.objects: dict[NamespacedName, T] = {}
        self._on_change: Changed[T] = on_change

    def scope(self, namespace: str | None) -> "Scope[T]":
        """Return the part that one informer fills: one namespace, or all."""
        return Scope(self, namespace)

    def put(self, object_: T) -> None:
        """Store the object, replacing any of the same name."""
        old = self.objects.get(object_.metadata.key)
        if old is not None and old.metadata.uid != object_.metadata.uid:
            self.remove(old.metadata.key, old.metadata.uid)
            old = None
        self.objects[object_.metadata.key] = object_
        self._on_change(old, object_)

    def upsert(self, object_: T) -> None:
        """Add or update an object, unless the stored version is newer."""
        old = self.objects.get(object_.metadata.key)
        same = old is not None and old.metadata.uid == object_.metadata.uid
        if old is None or not same or _resource_version(old) < _resource_version(object_):
            self.put(object_)

    def update(self, object_: T) -> None:
        """Store the answer to a write, unless the object was deleted meanwhile."""
        old = self.objects.get(object_.metadata.key)
        if old is not None and old.metadata.uid == object_.metadata.uid:
            self.upsert(object_)

    def remove(self, key: NamespacedName, uid: str) -> None:
        """Remove the object if it still has this uid."""
        old = self.objects.get(key)
        if old is not None and old.metadata.uid == uid:
            del self.objects[key]
            self._on_change(old, None)


class Scope(Generic[T]):
    """The part of a Table that one informer fills: its Sink."""

    def __init__(self, table: Table[T], namespace: str | None) -> None:
        self._table: Table[T] = table
        self._namespace = namespace

    async def replace(self, objects: list[T]) -> None:
        """Replace all objects in this scope; let other tasks run now and then.

        Versions are not compared: they restart when etcd is restored, and the next watch brings
        anything newer.
        """
        await asyncio.sleep(0)  # decoding the last page took its share of this step
        listed = {object_.metadata.key for object_ in objects}
        gone = [
            object_.metadata
            for key, object_ in self._table.objects.items()
            if key not in listed and self._namespace in {None, key.namespace}
        ]
        await _in_steps(gone, lambda metadata: self._table.remove(metadata.key, metadata.uid))
        await _in_steps(objects, self._table.put)

    def has(self, key: NamespacedName, uid: str, version: str) -> bool:
        """Return whether this version is already stored.

        A write's response can precede its watch event.
        """
        present = self._table.objects.get(key)
        return present is not None and (
            (present.metadata.uid, present.metadata.resource_version) == (uid, version)
        )

    def upsert(self, object_: T) -> None:
        """Add or update one object."""
        self._table.upsert(object_)

    def remove(self, key: NamespacedName, uid: str) -> None:
        """Remove the object if it still has this uid."""
        self._table.remove(key, uid)


async def _in_steps(items: Sequence[U], process: Callable[[U], None]) -> None:
    for start in range(0, len(items), STEP):
        await asyncio.sleep(0)
        for item in items[start : start + STEP]:
            process(item)


class ClaimIndex:
    """Which channel each object claims: the one it found, or else the one on record."""

    def __init__(self) -> None:
        self._by_object: dict[NamespacedName, tuple[NamespacedName, str]] = {}
        """The account and the channel id of each object's claim."""

        self._by_channel_id: dict[str, dict[NamespacedName, set[NamespacedName]]] = {}
        """The objects that claim a channel id, by account."""

        self.shared_ids: set[str] = set()
        """The channel ids that objects of several accounts claim."""

    def of(self, key: NamespacedName) -> str | None:
        """Return the channel id that the object claims."""
        claim = self._by_object.get(key)
        return claim[1] if claim else None

    def by_account(self, channel_id: str) -> Mapping[NamespacedName, Iterable[NamespacedName]]:
        """Return the objects that claim this channel, by account."""
        return self._by_channel_id.get(channel_id, {})

    def put(self, key: NamespacedName, account: NamespacedName, channel_id: str | None) -> None:
        """Record that the object of this account claims this channel, or none."""
        if before := self._by_object.pop(key, None):
            self._remove(key, *before)
        if channel_id:
            self._by_object[key] = (account, channel_id)
            accounts = self._by_channel_id.setdefault(channel_id, {})
            accounts.setdefault(account, set()).add(key)
            if len(accounts) > 1:
                self.shared_ids.add(channel_id)

    def _remove(self, key: NamespacedName, account: NamespacedName, channel_id: str) -> None:
        accounts = self._by_channel_id[channel_id]
        accounts[account].discard(key)
        if not accounts[account]:
            del accounts[account]
        if len(accounts) < 2:
            self.shared_ids.discard(channel_id)
        if not accounts:
            del self._by_channel_id[channel_id]


class Store:
    """Both kinds, the indexes that a pass needs, and which change wakes which account."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self.channels: Table[WazzupChannel] = Table(self._channel_changed)
        self.accounts: Table[WazzupAccount] = Table(self._account_changed)
        self._by_account: dict[NamespacedName, dict[str, WazzupChannel]] = {}
        """The WazzupChannels that reference an account, by uid."""

        self._claims = ClaimIndex()
        self._found: dict[str, str | None] = {}
        """The channel ids that passes found, by the object's uid."""

    def all_channels(self) -> list[WazzupChannel]:
        """Return a copy of all WazzupChannels."""
        return list(self.channels.objects.values())

    def all_accounts(self) -> list[WazzupAccount]:
        """Return a copy of all WazzupAccounts."""
        return list(self.accounts.objects.values())

    def account_keys(self) -> set[NamespacedName]:
        """Return every account that exists or is referenced."""
        return self.accounts.objects.keys() | self._by_account.keys()

    def knows(self, account: NamespacedName) -> bool:
        """Return whether this account exists or is referenced."""
        return account in self.accounts.objects or account in self._by_account

    def channels_of(self, account: NamespacedName) -> list[WazzupChannel]:
        """Return the WazzupChannels that reference this account."""
        return list(self._by_account.get(account, {}).values())

    @property
    def shared_ids(self) -> Set[str]:
        """The channel ids that objects of several accounts claim."""
        return self._claims.shared_ids

    def claimed(self, channel: WazzupChannel) -> str | None:
        """Return the channel id that the object claims."""
        return self._claims.of(channel.metadata.key)

    def rivals(self, channel_id: str, account: NamespacedName) -> list[WazzupChannel]:
        """Return the objects of other accounts that claim this channel id.

        An object whose account does not exist has no say.
        """
        return [
            self.channels.objects[key]
            for other, keys in self._claims.by_account(channel_id).items()
            if other != account and other in self.accounts.objects
            for key in keys
        ]

    def record_found(self, channel: WazzupChannel, channel_id: str | None) -> None:
        """Record which channel an object found; wake other accounts that claim it."""
        uid = channel.metadata.uid
        if self._found.get(uid, "") != channel_id and self._is_present(channel):
            self._claim(channel, channel_id)
            self._found[uid] = channel_id

    def forget_found(self, channel: WazzupChannel) -> None:
        """Reset an object's claim to the channel id on record."""
        if self._is_present(channel):
            self._found.pop(channel.metadata.uid, None)
            self._claim(channel, channel.recorded.channel_id)

    def _is_present(self, channel: WazzupChannel) -> bool:
        """Return whether the object still exists and refers to the same account."""
        present = self.channels.objects.get(channel.metadata.key)
        return present is channel or (
            present is not None
            and present.metadata.uid == channel.metadata.uid
            and present.account_key == channel.account_key
        )

    def _claim(self, channel: WazzupChannel, channel_id: str | None) -> None:
        """Change an object's claim; wake other accounts that claim the old or the new channel."""
        key, account = channel.metadata.key, channel.account_key
        before = self._claims.of(key)
        if before != channel_id:
            self._claims.put(key, account, channel_id)
            self._wake_claimants(channel_id, account)
            self._wake_claimants(before, account)

    def _account_changed(self, old: WazzupAccount | None, new: WazzupAccount | None) -> None:
        account = new or old
        if account is None:
            return
        key = account.metadata.key
        if _requested(old, new):
            self._wake(key, True)
        if not _needs_pass(old, new):
            return
        self._wake(key, False)
        if old is None or new is None:  # its objects' claims begin or end to count
            for channel in self.channels_of(key):
                self._wake_claimants(self.claimed(channel), key)

    def _channel_changed(self, old: WazzupChannel | None, new: WazzupChannel | None) -> None:
        before = self._claims.of(old.metadata.key) if old else None
        if old:
            self._leave(old)
        if old and (new is None or new.account_key != old.account_key):
            # What the object found belongs to the old account.
            self._found.pop(old.metadata.uid, None)
            self._claims.put(old.metadata.key, old.account_key, None)
        if new:
            self._enter(new)
            if _requested(old, new):
                self._wake(new.account_key, True)
        if not _needs_pass(old, new):
            return
        after = self._claims.of(new.metadata.key) if new else None
        for account in {channel.account_key for channel in (old, new) if channel}:
            self._wake(account, False)
            for channel_id in {before, after}:
                self._wake_claimants(channel_id, account)

    def _enter(self, channel: WazzupChannel) -> None:
        key = channel.metadata.key
        self._by_account.setdefault(channel.account_key, {})[channel.metadata.uid] = channel
        if channel.metadata.uid not in self._found:
            self._claims.put(key, channel.account_key, channel.recorded.channel_id)

    def _leave(self, channel: WazzupChannel) -> None:
        channels = self._by_account[channel.account_key]
        del channels[channel.metadata.uid]
        if not channels:
            del self._by_account[channel.account_key]

    def _wake_claimants(self, channel_id: str | None, except_account: NamespacedName) -> None:
        for account in self._claims.by_account(channel_id or ""):
            if account != except_account:
                self._wake(account, False)


def _needs_pass(old: T | None, new: T | None) -> bool:
    """Return whether the change needs a pass, besides a requested listing.

    A changed status does not, whoever wrote it. Another writer may have used a newer listing than
    this process; the next listing decides.
    """
    if old is None or new is None or _inputs(old.metadata) != _inputs(new.metadata):
        return True
    return _resource_version(new) < _resource_version(old)  # etcd was restored


def _inputs(metadata: ObjectMeta) -> tuple[int, bool, dict[str, str]]:
    """Return what a plan depends on, besides the status."""
    annotations = {k: v for k, v in metadata.annotations.items() if k != REQUESTED_AT}
    return metadata.generation, metadata.deleting, annotations


def _requested(old: T | None, new: T | None) -> bool:
    if new is None:
        return False
    before = old.metadata.annotations.get(REQUESTED_AT) if old else None
    return new.metadata.annotations.get(REQUESTED_AT) not in {None, before}


def _resource_version(object_: WazzupChannel | WazzupAccount) -> int:
    """Return the resourceVersion as a number (KEP-5504)."""
    return int(object_.metadata.resource_version)
