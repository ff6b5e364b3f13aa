"""One account's memory between passes: the last listing, or why there is none.

Times are monotonic seconds, except `wall` and `last_sync`. This memory is lost on restart; anything
that must survive is in the statuses.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from wazzup_operator.backoff import Backoff
from wazzup_operator.domain.listing import EMPTY, ListedChannel, Listing
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.reconcile.observation import Listed, Observation, Trouble, Unlisted
from wazzup_operator.reconcile.trust import CONFIRM, Trust, weigh
from wazzup_operator.resources.account import AccountSpec, WazzupAccount
from wazzup_operator.settings import ControllerSettings

REUSED_FOR = 5.0
"""Seconds for which a listing is used again when objects change."""

_BACKOFF = (1.0, 60.0)
"""Minimum and maximum seconds until a failed listing is retried."""

_KEY_BACKOFF = (1.0, 30.0)
"""Retry bounds after a missing or invalid Secret; shorter, because Secrets are not watched."""

_NEVER = float("inf")

_NO_ACCOUNT = Trouble(Reason.ACCOUNT_NOT_FOUND, "")

_NO_ROWS = Trouble(
    Reason.ACCOUNT_UNREACHABLE,
    "Wazzup's listing is empty, although the account had channels. The operator keeps their states"
    " until --stale-after; check the account in Wazzup unless you deleted them.",
)


class AccountMemory:
    """Decides when to list, and what a pass may use meanwhile."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self._forget()

    def _forget(self) -> None:
        self._identity: tuple[str, object] | None = None
        self._interval = 0.0
        self._listed: Listed | None = None
        self._listed_at: float | None = None
        self._changed_at: dict[str, float] = {}
        self.last_sync: datetime | None = None
        self._trouble: Trouble | None = None
        self._backoff = Backoff(*_BACKOFF)
        self._key_backoff = Backoff(*_KEY_BACKOFF)
        self._next = -_NEVER
        self._not_before = -_NEVER

    @property
    def failures(self) -> int:
        """Number of consecutive failed listings."""
        return self._backoff.failures + self._key_backoff.failures

    @property
    def listing(self) -> Listing:
        """The last listing; empty before the first."""
        return self._listed.listing if self._listed else EMPTY

    def take_age_of_change(self, channel_id: str | None, now: float) -> float | None:
        """Return and clear the seconds since a listing first showed the channel's current state.

        None if this process did not see the state change, or if the last listing failed.
        """
        changed_at = self._changed_at.pop(channel_id or "", None)
        return None if changed_at is None or self._trouble else now - changed_at

    def forget_changes(self) -> None:
        """Drop change times left over after a complete pass."""
        self._changed_at.clear()

    def follow(self, account: WazzupAccount | None, now: float) -> None:
        """Apply the account's spec.

        A recreated account or a different Secret reference resets the memory.
        """
        identity = (account.metadata.uid, account.spec.api_key_secret_ref) if account else None
        if identity != self._identity:
            self._forget()
            self._identity = identity
        if account:
            interval = self._interval_of(account.spec)
            if interval != self._interval:
                self._interval = interval
                self._next = min(self._next, now + interval)

    def _interval_of(self, spec: AccountSpec) -> float:
        return max(spec.poll_seconds, self._settings.min_poll_interval.total_seconds())

    def may_list(self, now: float, *, woken: bool, requested: bool) -> bool:
        """Return whether to list now: when due, after a change, or on request."""
        if now < self._not_before:
            return False
        if requested or now >= self._next:
            return True
        fresh = self._listed_at is not None and now - self._listed_at < REUSED_FOR
        return woken and self._trouble is None and not fresh

    def next_listing(self, *, requested: bool) -> float:
        """Return when to list without a wake-up; `requested`: a user waits for it."""
        return self._not_before if requested else max(self._next, self._not_before)

    def key_changed(self) -> None:
        """Forget since when channels have been missing: the old key's listings count no more."""
        if self._listed:
            self._listed = replace(self._listed, trust=Trust(self._listed.trust.known))

    def ignores(
        self,
        listing: Listing,
        recorded: Iterable[str],
        account: WazzupAccount,
        now: float,
        wall: datetime,
    ) -> bool:
        """Return whether a listing counts as none, and remember that then.

        It has no rows although channels were known, and the last listing is not stale. `recorded`
        are the channel ids in the objects' statuses.
        """
        had_rows = self.listing.has_rows if self._listed else any(recorded)
        if listing.has_rows or not had_rows or self._stale_in(account, now, wall) <= 0:
            return False
        self.failed(_NO_ROWS, now)
        # The first listing when the last one is stale counts: no channel becomes Unknown.
        self._next = min(self._next, self.stale_at(account, now, wall))
        return True

    def succeeded(
        self, listing: Listing, recorded: Iterable[str], now: float, wall: datetime
    ) -> None:
        """Remember a listing. `recorded` are the channel ids in the objects' statuses."""
        before = self._listed.trust if self._listed else Trust(frozenset(recorded))
        trust = weigh(before, listing, now, self.listing)
        if self._listed and listing is not self.listing:
            self._note_changes(self.listing.channels, listing.channels, before.known, now)
        self._listed = Listed(listing, trust)
        self._listed_at, self.last_sync = now, wall
        self._trouble, self._not_before = None, -_NEVER
        self._backoff.succeed()
        self._key_backoff.succeed()
        # Jitter spreads the listings of many accounts. It only shortens the interval, so a change
        # in Wazzup is still seen within one.
        wait = self._interval * random.uniform(0.9, 1.0)
        confirm = (each.since + CONFIRM for each in trust.missing.values())
        self._next = min([now + wait, *confirm])

    def _note_changes(
        self,
        before: Mapping[str, ListedChannel],
        after: Mapping[str, ListedChannel],
        known: frozenset[str],
        now: float,
    ) -> None:
        self._changed_at = {id_: at for id_, at in self._changed_at.items() if id_ in after}
        for id_, channel in after.items():
            # A channel that was unconfirmed or ambiguous before is not new.
            is_new = id_ not in before and id_ not in known
            if is_new or (id_ in before and before[id_].state is not channel.state):
                self._changed_at[id_] = now

    def failed(self, trouble: Trouble, now: float, retry_after: float | None = None) -> None:
        """Remember a failure; `retry_after` is in seconds."""
        self._trouble = trouble
        if retry_after:
            self._not_before = max(self._not_before, now + retry_after)
        if trouble.reason is Reason.ACCOUNT_UNREACHABLE:
            self._next = now + self._backoff.fail()
        else:
            # A Secret is often applied just after its account, so retry soon at first.
            self._next = now + min(self._interval, self._key_backoff.fail())

    def observation(
        self, account: WazzupAccount | None, now: float, wall: datetime
    ) -> Observation | None:
        """Return what a pass may use; None before the first listing or its failure."""
        if account is None:
            return Unlisted(_NO_ACCOUNT, stale=True)
        if self._trouble:
            return Unlisted(self._trouble, stale=self._stale_in(account, now, wall) <= 0)
        return self._listed

    def stale_at(self, account: WazzupAccount | None, now: float, wall: datetime) -> float:
        """Return when the last listing becomes stale."""
        if account is None or self._trouble is None:
            return _NEVER
        left = self._stale_in(account, now, wall)
        return now + left if left > 0 else _NEVER

    def _stale_in(self, account: WazzupAccount, now: float, wall: datetime) -> float:
        """Return the seconds until staleAfter has passed since any process's last listing."""
        if self._listed_at is not None:
            age = now - self._listed_at
        elif account.status.last_sync_time is not None:
            age = max(0.0, (wall - account.status.last_sync_time).total_seconds())
        else:
            return 0.0
        return max(self._settings.stale_after.total_seconds(), 3 * self._interval) - age
