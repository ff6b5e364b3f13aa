"""One account's loop: list, plan, write what differs, wait."""

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from wazzup_operator.controller.memory import AccountMemory
from wazzup_operator.controller.store import Store, Table
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.kube.client import KubeClient
from wazzup_operator.kube.errors import KubeError
from wazzup_operator.kube.events import EventRecorder
from wazzup_operator.kube.secrets import KeyUnusable, SecretMissing, read_api_key
from wazzup_operator.kube.status import IN_FLIGHT, NotWritten, StatusWriter, Written
from wazzup_operator.reconcile.account import Trouble
from wazzup_operator.reconcile.plan import AccountKey, AccountView, Plan, plan
from wazzup_operator.reconcile.transitions import account_transition, channel_transition
from wazzup_operator.resources.account import AccountStatus, WazzupAccount
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS, Resource, Status
from wazzup_operator.settings import ControllerSettings
from wazzup_operator.wazzup.client import WazzupClient
from wazzup_operator.wazzup.errors import WazzupError

log = logging.getLogger(__name__)

T = TypeVar("T", WazzupChannel, WazzupAccount)

GAP = 1.0
"""Seconds at least between the beginnings of two passes."""

_RETRY_LEAST, _RETRY_MOST = 1.0, 60.0
"""Seconds between two tries at something that the API server refused."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every account's loop works with."""

    settings: ControllerSettings
    store: Store
    kube: KubeClient
    wazzup: WazzupClient
    writer: StatusWriter
    events: EventRecorder


class AccountLoop:
    """Keeps the statuses of one account and of its channels true."""

    def __init__(self, key: AccountKey, around: Surroundings) -> None:
        self.key = key
        self._around = around
        self._memory = AccountMemory(around.settings)
        self._news = asyncio.Event()
        self._requested = False
        self._due = 0.0
        self._refusals = 0
        self.pass_begun: float | None = None
        """The event loop's time at which the present pass began; None between passes."""

    def wake(self, *, requested: bool) -> None:
        """Have a pass soon; `requested`: somebody asked for a listing."""
        self._requested |= requested
        self._news.set()

    async def run(self) -> None:
        """Go on until nothing refers to the account any more."""
        while self.key in self._around.store.account_keys():
            begun = self.pass_begun = _now()
            try:
                await self._pass()
            except Exception:
                # One account's surprise must not end the others' loops.
                log.exception("account %s/%s: a pass failed; trying again", *self.key)
                self._due = self._later()
            self.pass_begun = None
            await self._rest(begun)

    async def _rest(self, begun: float) -> None:
        """Wait for news or until something is due, and in any case for the gap."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(self._due, _now() + 3600.0)):
                await self._news.wait()
        await asyncio.sleep(begun + GAP - _now())

    async def _pass(self) -> None:
        woken = self._news.is_set()
        account = self._account()
        if (
            account
            and not account.metadata.paused
            and self._memory.may_list(_now(), woken=woken, requested=self._requested)
        ):
            self._requested = False
            await self._list(account)
        self._news.clear()  # what came during the listing is planned now
        account = self._account()
        paused = account is not None and account.metadata.paused
        sight = None if paused else self._memory.sight(account, _now(), _wall())
        planned = Plan([], None, {}, None)
        if sight or paused:
            planned = plan(
                AccountView(
                    key=self.key,
                    account=account,
                    channels=self._around.store.channels_of(self.key),
                    sight=sight,
                    claims=self._around.store,
                    last_sync=self._memory.last_sync,
                    now=_wall(),
                    deadline=self._around.settings.progress_deadline,
                )
            )
        all_written = await self._write(planned, account)
        self._due = self._next_pass(planned, account, all_written=all_written)

    def _account(self) -> WazzupAccount | None:
        account = self._around.store.accounts.objects.get(self.key)
        self._memory.follow(account, _now())
        return account

    def _next_pass(
        self, planned: Plan, account: WazzupAccount | None, *, all_written: bool
    ) -> float:
        due = self._memory.next_loss(account, _now(), _wall())
        if account and not account.metadata.paused:
            due = min(due, self._memory.next_listing())
        if planned.due:
            due = min(due, _now() + (planned.due - _wall()).total_seconds())
        if all_written:
            self._refusals = 0
            return due
        return min(due, self._later())

    def _later(self) -> float:
        self._refusals += 1
        most = min(_RETRY_MOST, _RETRY_LEAST * 2.0 ** min(self._refusals, 10))
        return _now() + random.uniform(_RETRY_LEAST, most)

    async def _list(self, account: WazzupAccount) -> None:
        around, memory = self._around, self._memory
        try:
            key = await read_api_key(
                around.kube, account.metadata.namespace, account.spec.api_key_secret_ref
            )
            listing = await around.wazzup.list_channels(key)
        except SecretMissing as error:
            memory.failed(Trouble(Reason.SECRET_NOT_FOUND, str(error)), _now())
        except KeyUnusable as error:
            memory.failed(Trouble(Reason.CREDENTIALS_INVALID, str(error)), _now())
        except WazzupError as error:
            memory.failed(Trouble(error.reason, str(error)), _now(), error.retry_after)
        except KubeError as error:
            # That says nothing of Wazzup, and nothing could be written anyway.
            log.warning("account %s/%s: its Secret cannot be read: %s", *self.key, error)
            memory.put_off(self._later())
        else:
            recorded = (channel.status.channel_id for channel in around.store.channels_of(self.key))
            memory.succeeded(listing, filter(None, recorded), _now(), _wall())

    async def _write(self, planned: Plan, account: WazzupAccount | None) -> bool:
        """Carry out the plan, the account last. Returns whether the API server took everything."""
        store = self._around.store
        for channel in store.channels_of(self.key):
            if channel.metadata.uid in planned.found:
                store.note_found(channel, planned.found[channel.metadata.uid])
        pending = iter(planned.statuses)
        refused: list[bool] = []

        async def work() -> None:
            for channel, status in pending:
                outcome = await self._write_one(CHANNELS, store.channels, channel, status)
                refused.append(outcome is NotWritten.FAILED)

        await asyncio.gather(*(work() for _ in range(min(IN_FLIGHT, len(planned.statuses)))))
        if account and planned.account_status:
            outcome = await self._write_one(
                ACCOUNTS, store.accounts, account, planned.account_status
            )
            refused.append(outcome is NotWritten.FAILED)
        return not any(refused)

    async def _write_one(
        self, resource: Resource[T], table: Table[T], object_: T, status: Status
    ) -> Written[T] | NotWritten:
        if table.objects.get(object_.metadata.key) is not object_:
            self._news.set()  # changed since it was planned
            return NotWritten.OUTDATED
        outcome = await self._around.writer.write(resource, object_, status)
        if isinstance(outcome, Written):
            table.upsert(outcome.object)
            self._tell(resource, object_, status)
        elif outcome is NotWritten.OUTDATED:
            self._news.set()
        return outcome

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
                "%s %s/%s: %s: %s",
                resource.kind,
                *before.metadata.key,
                transition.reason,
                transition.note,
            )
            self._around.events.record(
                resource.reference(before), transition.type, transition.reason, transition.note
            )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _wall() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
