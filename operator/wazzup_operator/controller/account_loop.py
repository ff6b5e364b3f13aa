"""One account's loop: list, plan, write what differs, wait."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from wazzup_operator.backoff import Backoff
from wazzup_operator.controller.memory import AccountMemory
from wazzup_operator.controller.store import Store, Table
from wazzup_operator.domain.listing import Listing, Number
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.kube.errors import Deposed, KubeError, Refused
from wazzup_operator.kube.events import EventRecorder
from wazzup_operator.kube.secrets import KeyUnusable, SecretMissing, SecretReader
from wazzup_operator.kube.status import NotWritten, StatusWriter, Written, awaits_status
from wazzup_operator.observability import metrics
from wazzup_operator.reconcile.account import Trouble
from wazzup_operator.reconcile.plan import AccountView, Plan, plan
from wazzup_operator.reconcile.transitions import account_transition, channel_transition
from wazzup_operator.resources.account import AccountStatus, WazzupAccount
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS, Resource, Status
from wazzup_operator.settings import ControllerSettings
from wazzup_operator.wazzup.client import WazzupClient
from wazzup_operator.wazzup.errors import WazzupError

log = logging.getLogger(__name__)

T = TypeVar("T", WazzupChannel, WazzupAccount)

CONTROLLER = "wazzupaccount"
"""What controller-runtime's metrics call this loop."""

GAP = 1.0
"""Seconds at least between the beginnings of two passes."""

_RETRY = (1.0, 60.0)
"""Seconds at least and at most between two tries at something that the API server refused."""

OF_ONE_ACCOUNT = 12
"""PATCHes of an account under way at once: fewer than of all, so that where each takes long, the
others' go on."""

_REFUSALS = 16
"""How many writes in a row may be refused before a pass ends: each may take long."""

_SECOND_TRIES = 8
"""How many that were refused and are waited for are tried before the routine: too few to end a
pass."""

_SECRET_TRIES = 3
"""How often in a row an API server may fail over a Secret before that is told of the account."""

_SECRET_WAIT = 10.0
"""Seconds that it may ask to wait before that is told at once."""


def begin_metrics() -> None:
    """Let each series of the passes begin with 0, as rate() sees no first failure otherwise."""
    metrics.reconcile_errors.labels(CONTROLLER)
    for result in ("success", "requeue_after", "error"):
        metrics.reconciles.labels(CONTROLLER, result)


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What every account's loop works with."""

    settings: ControllerSettings
    store: Store
    secrets: SecretReader
    wazzup: WazzupClient
    writer: StatusWriter
    events: EventRecorder
    clock: Callable[[], datetime]
    """Says what time it is, in UTC with whole seconds."""


@dataclass(slots=True)
class _Writing:
    """How the writes of one pass go."""

    patience: float
    """Until when routine writes go on though there is news."""

    failures: set[NotWritten] = field(default_factory=set)
    refusals: int = 0
    """How many were refused in a row."""


class AccountLoop:
    """Keeps the statuses of one account and of its channels true."""

    def __init__(self, key: NamespacedName, deps: Dependencies) -> None:
        self.key = key
        self._deps = deps
        self.memory = AccountMemory(deps.settings)
        self._news = asyncio.Event()
        self._requested = False
        self._due = self._not_before = 0.0
        self._writing = Backoff(*_RETRY)
        self._reading = Backoff(*_RETRY)
        self._away = False
        """Whether the API server did not answer when it was last asked for a Secret in vain."""

        self._doubts: tuple[frozenset[str], frozenset[Number]] = (frozenset(), frozenset())
        self._refused: dict[tuple[str, int], float] = {}
        """When an object's status was last refused, by uid and generation."""

        self._turned: float | None = None

    def silence(self) -> float:
        """Return for how many seconds the present pass has not got on.

        0 between passes, and while statuses are written: the writer is watched for itself.
        """
        return 0.0 if self._turned is None else _now() - self._turned

    def wake(self, *, requested: bool) -> None:
        """Have a pass soon; `requested`: somebody asked for a listing."""
        self._requested |= requested
        self._news.set()

    async def run(self) -> None:
        """Go on until nothing refers to the account any more."""
        while self.key in self._deps.store.account_keys():
            begun = self._turned = _now()
            with metrics.active_workers.labels(CONTROLLER).track_inprogress():
                result = await self._try_pass()
            metrics.reconciles.labels(CONTROLLER, result).inc()
            metrics.reconcile_time.labels(CONTROLLER).observe(_now() - begun)
            self._turned = None
            await self._rest(begun)

    async def _try_pass(self) -> str:
        """Have a pass; return its result in controller-runtime's words."""
        try:
            return "success" if await self._pass() else "requeue_after"
        except Exception:
            # One account's surprise must not end the others' loops.
            log.exception("account %s: a pass failed; trying again", self.key)
            metrics.reconcile_errors.labels(CONTROLLER).inc()
            self._begin_again(self._writing)
            return "error"

    async def _rest(self, begun: float) -> None:
        """Wait for news or until something is due, and in any case for as long as must be."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(self._due, _now() + 3600.0)):
                await self._news.wait()
        await asyncio.sleep(max(begun + GAP, self._not_before) - _now())

    async def _pass(self) -> bool:
        """List, plan and write. Returns whether nothing has to be tried again."""
        woken = self._news.is_set()
        account = self._account()
        # A Secret that could not be read comes first in each pass, until it is told that the API
        # server does not give it. When one is back that was away, neither what an old listing would
        # plan nor that it was away must be the first thing written.
        first = self._reading.failures > 0 and (self._away or not self.memory.failures)
        requested = self._requested or first
        if (
            account
            and not account.metadata.paused
            and self.memory.may_list(_now(), woken=woken, requested=requested)
        ):
            self._requested = listed = False
            try:
                await self._list(account)
                listed = True
            except KubeError as error:
                # It may pass, so nothing is planned: an old listing would be planned with. Nor is
                # there more to be had for whoever wakes this loop meanwhile.
                self._begin_again(self._reading, _asked(error))
                self._not_before = self._due
                return False
            finally:
                self._requested |= not listed  # what was to be listed still is
        self._turned = _now()
        self._news.clear()  # what came during the listing is planned now
        account = self._account()
        paused = account is not None and account.metadata.paused
        sight = None if paused else self.memory.sight(account, _now(), self._deps.clock())
        planned = Plan([], None, {}, None)
        if sight or paused:
            planned = plan(
                AccountView(
                    key=self.key,
                    account=account,
                    channels=self._deps.store.channels_of(self.key),
                    sight=sight,
                    claims=self._deps.store,
                    last_sync=self.memory.last_sync,
                    now=self._deps.clock(),
                    deadline=self._deps.settings.progress_deadline,
                )
            )
        self._turned = None
        all_written = await self._write(planned, account)
        self._due = self._next_pass(planned, account, all_written=all_written)
        return all_written and self.memory.failures == 0

    def _begin_again(self, backoff: Backoff, asked: float = 0.0) -> None:
        """Have the pass later that has just failed, after `asked` seconds at least."""
        self._news.clear()
        self._due = _now() + max(backoff.fail(), asked)

    def _account(self) -> WazzupAccount | None:
        account = self._deps.store.accounts.objects.get(self.key)
        self.memory.follow(account, _now())
        return account

    def _next_pass(
        self, planned: Plan, account: WazzupAccount | None, *, all_written: bool
    ) -> float:
        due = self.memory.next_loss(account, _now(), self._deps.clock())
        if account and not account.metadata.paused:
            due = min(due, self.memory.next_listing(requested=self._requested))
        if planned.due:
            due = min(due, _now() + (planned.due - self._deps.clock()).total_seconds())
        if all_written:
            self.memory.forget_changes()
            self._writing.succeed()
            return due
        # What was asked for is not a failure to be waited longer and longer for.
        return min(due, _now() + (self._deps.writer.wait() or self._writing.fail()))

    async def _list(self, account: WazzupAccount) -> None:
        """List the channels. Raises KubeError if the Secret cannot be read, which may pass."""
        deps, memory = self._deps, self.memory
        try:
            key = await deps.secrets.read_api_key(
                account.metadata.namespace, account.spec.api_key_secret_ref
            )
            listing = await deps.wazzup.list_channels(key)
        except SecretMissing as error:
            memory.failed(Trouble(Reason.SECRET_NOT_FOUND, str(error)), _now())
        except KeyUnusable as error:
            memory.failed(Trouble(Reason.CREDENTIALS_INVALID, str(error)), _now())
        except WazzupError as error:
            memory.failed(Trouble(error.reason, str(error)), _now(), error.retry_after)
        except Deposed:
            raise
        except KubeError as error:
            self._away = not isinstance(error, Refused)
            if self._reading.failures < _SECRET_TRIES and _asked(error) <= _SECRET_WAIT:
                raise
            self._reading.fail()
            secret = account.spec.api_key_secret_ref.name
            sentence = f'The Secret "{secret}" cannot be read: {error}.'
            trouble = Trouble(Reason.ACCOUNT_UNREACHABLE, sentence)
            memory.failed(trouble, _now(), _asked(error))
            return
        else:
            recorded = (channel.status.channel_id for channel in deps.store.channels_of(self.key))
            memory.succeeded(listing, filter(None, recorded), _now(), self._deps.clock())
            self._tell_doubts(listing)
        self._reading.succeed()

    def _tell_doubts(self, listing: Listing) -> None:
        doubts = (listing.doubtful_ids, listing.doubtful_numbers)
        if doubts == self._doubts:
            return
        self._doubts = doubts
        if not any(doubts):
            log.info("account %s: nothing that Wazzup lists is in doubt any more", self.key)
        else:
            log.warning(
                "account %s: Wazzup lists %d channels and %d numbers in a way that cannot be"
                " made out; the objects they concern keep their state",
                self.key,
                *map(len, doubts),
            )

    async def _write(self, planned: Plan, account: WazzupAccount | None) -> bool:
        """Carry out the plan, the account last. Returns whether the API server took everything."""
        self._note_found(planned, account)
        pending = self._in_order(planned)
        writing = _Writing(patience=_now() + GAP)
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(OF_ONE_ACCOUNT, len(planned.statuses))):
                workers.create_task(self._write_some(pending, writing))
        failures = writing.failures
        unreachable = NotWritten.UNREACHABLE in failures
        if account and planned.account_status and not unreachable and not self._news_waits(writing):
            accounts = self._deps.store.accounts
            failures |= await self._write_one(ACCOUNTS, accounts, account, planned.account_status)
        return not failures

    async def _write_some(
        self, pending: Iterator[tuple[WazzupChannel, ChannelStatus]], writing: "_Writing"
    ) -> None:
        """Write what others have not taken up, as long as that makes sense."""
        writer = self._deps.writer
        for channel, status in pending:
            # With the API server away the rest is planned anew, not tried one by one.
            if NotWritten.UNREACHABLE in writing.failures or writing.refusals >= _REFUSALS:
                return
            if self._news_waits(writing) and not awaits_status(channel):
                continue
            if writer.wait():
                writing.failures.add(NotWritten.REFUSED)
                return
            why = await self._write_one(CHANNELS, self._deps.store.channels, channel, status)
            writing.failures |= why
            if NotWritten.REFUSED not in why:
                writing.refusals = 0
                self._refused.pop(_version(channel), None)
            elif not writer.wait():  # for else it was asked to wait
                writing.refusals += 1
                self._refused[_version(channel)] = _now()

    def _news_waits(self, writing: "_Writing") -> bool:
        # A change does not wait for thousands of routine writes: they are planned anew with it.
        return self._news.is_set() and _now() > writing.patience

    def _in_order(self, planned: Plan) -> Iterator[tuple[WazzupChannel, ChannelStatus]]:
        """Return what somebody waits for first, and what was refused last, the newest refusal last.

        A few of those that were refused and are waited for come before the routine: it may have
        been for a moment.
        """
        present = {_version(channel) for channel, _ in planned.statuses}
        self._refused = {which: at for which, at in self._refused.items() if which in present}
        waiting = [channel for channel, _ in planned.statuses if awaits_status(channel)]
        tried = sorted(
            self._refused.keys() & set(map(_version, waiting)), key=self._refused.__getitem__
        )
        again = set(tried[:_SECOND_TRIES])

        def rank(each: tuple[WazzupChannel, ChannelStatus]) -> tuple[int, float]:
            which = _version(each[0])
            if which in self._refused:
                return (1, 0.0) if which in again else (3, self._refused[which])
            return (0, 0.0) if awaits_status(each[0]) else (2, 0.0)

        return iter(sorted(planned.statuses, key=rank))

    def _note_found(self, planned: Plan, account: WazzupAccount | None) -> None:
        store = self._deps.store
        for channel in store.channels_of(self.key):
            if channel.metadata.uid in planned.found:
                store.note_found(channel, planned.found[channel.metadata.uid])
            elif account is None or account.metadata.paused or channel.metadata.paused:
                store.forget_found(channel)

    async def _write_one(
        self, resource: Resource[T], table: Table[T], object_: T, status: Status
    ) -> set[NotWritten]:
        """Write a status. Returns why it has to be tried again, if it has to."""
        outcome: Written[T] | NotWritten = NotWritten.OUTDATED
        if table.objects.get(object_.metadata.key) is object_:
            outcome = await self._deps.writer.write(resource, object_, status)
        result = "written" if isinstance(outcome, Written) else outcome
        metrics.status_writes.labels(resource.kind, result).inc()
        if isinstance(outcome, Written):
            table.renew(outcome.object)
            self._tell(resource, object_, status)
            self._measure(object_, status)
            return set()
        return {outcome} - {NotWritten.NOT_KEPT}

    def _measure(self, before: WazzupChannel | WazzupAccount, status: Status) -> None:
        """Take down how long somebody waited for this status of a channel."""
        if not isinstance(before, WazzupChannel) or not isinstance(status, ChannelStatus):
            return
        if before.status.state == status.state:
            return
        waited = self.memory.take_age_of_change(status.channel_id, _now())
        if before.status.state is None:
            age = self._deps.clock() - before.metadata.creation_timestamp
            metrics.first_status.observe(max(0.0, age.total_seconds()))
        elif waited is not None:
            metrics.change_to_status.observe(waited)

    def _tell(self, resource: Resource[T], before: T, status: Status) -> None:
        if isinstance(before.status, ChannelStatus) and isinstance(status, ChannelStatus):
            transition = channel_transition(before.status, status)
        elif isinstance(before.status, AccountStatus) and isinstance(status, AccountStatus):
            transition = account_transition(before.status, status)
        else:
            transition = None
        if transition:
            log.log(
                logging.WARNING if transition.type == "Warning" else logging.INFO,
                "%s %s: %s: %s",
                resource.kind,
                before.metadata.key,
                transition.reason,
                transition.note,
            )
            self._deps.events.record(
                resource.reference(before), transition.type, transition.reason, transition.note
            )


def _asked(error: KubeError) -> float:
    """Return the seconds that the API server asked to wait."""
    return (error.retry_after or 0.0) if isinstance(error, Refused) else 0.0


def _version(channel: WazzupChannel) -> tuple[str, int]:
    return channel.metadata.uid, channel.metadata.generation


def _now() -> float:
    return asyncio.get_running_loop().time()
