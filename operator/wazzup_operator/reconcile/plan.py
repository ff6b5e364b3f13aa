"""Plans a pass over an account: which statuses to write."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from wazzup_operator.domain.listing import ListedChannel
from wazzup_operator.reconcile.account import Census, is_ready, next_account_status
from wazzup_operator.reconcile.conditions import progress_due
from wazzup_operator.reconcile.find import Failure, Findings, Found, Rivals, duplicate, with_each
from wazzup_operator.reconcile.finding import Finding, Inconclusive, Paused
from wazzup_operator.reconcile.observation import Listed
from wazzup_operator.reconcile.status import next_status
from wazzup_operator.reconcile.view import AccountView, Settled
from wazzup_operator.resources.account import AccountStatus
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of a pass.

    `statuses` and `account_status` hold only statuses that changed. `due` is when the next
    Reconciling becomes Stalled. `settled` is for the next plan. Objects in `failed` were not
    planned.
    """

    statuses: Sequence[tuple[WazzupChannel, ChannelStatus]] = ()
    account_status: AccountStatus | None = None
    due: datetime | None = None
    settled: Mapping[str, Settled] = field(default_factory=dict)
    failed: Sequence[Failure[WazzupChannel]] = ()


def plan(view: AccountView, findings: Findings) -> Generator[None, None, Plan]:
    """Compute the statuses to write.

    The account's own claims must be recorded before: a rival's later claim then wakes the account.
    """
    planner = _Planner(view, findings)
    failed = yield from with_each(findings, planner.judge)
    return planner.finish([*findings.failed, *failed])


class _Planner:
    def __init__(self, view: AccountView, findings: Findings) -> None:
        self._view = view
        self._findings = findings
        self._rivals = Rivals(view)
        self._shared_ids = view.claims.shared_ids
        self._kept_ids: set[str | None] = set()
        self._declared = self._ready = 0
        self._changed: list[tuple[WazzupChannel, ChannelStatus]] = []
        self._settled: dict[str, Settled] = {}
        self._due: datetime | None = None

    def judge(self, found: Found) -> None:
        """Compute the object's next status."""
        channel, finding = found
        if isinstance(finding, ListedChannel):
            keeper = self._findings.by_channel_id[finding.channel_id]
            if finding.channel_id in self._shared_ids:
                keeper = self._rivals.keeper(finding.channel_id, keeper)
            finding = finding if keeper is channel else duplicate(channel, keeper)
        elif isinstance(finding, Paused | Inconclusive):
            self._kept_ids.add(channel.recorded.channel_id)
        if channel.metadata.deletion_timestamp:
            return
        settled = self._settle(channel, finding)
        self._declared += 1
        self._ready += settled.ready
        if settled.due:
            self._remember(settled.due)

    def _settle(self, channel: WazzupChannel, finding: Finding) -> Settled:
        """Compute the next status, unless the last plan's still holds."""
        view, uid = self._view, channel.metadata.uid
        settled = view.settled.get(uid)
        if settled and settled.holds(channel, finding, view.now):
            if settled.channel is not channel:  # do not keep what a new list replaced in the Store
                settled = settled._replace(channel=channel, finding=finding)
            self._settled[uid] = settled
            return settled
        status = next_status(channel, finding, view.now, view.deadline)
        due = progress_due(status.conditions, view.deadline)
        settled = Settled(channel, finding, is_ready(status), due)
        if status == channel.status:
            self._settled[uid] = settled
        else:
            self._changed.append((channel, status))
        return settled

    def _remember(self, due: datetime) -> None:
        if self._due is None or due < self._due:
            self._due = due

    def finish(self, failed: Sequence[Failure[WazzupChannel]]) -> Plan:
        """Compute the account's status and return the plan."""
        view, account_status = self._view, None
        if view.account:
            account_status = next_account_status(
                view.account,
                self._declared,
                self._ready,
                view.observation,
                self._census(),
                view.last_sync,
                view.now,
                view.deadline,
            )
            if due := progress_due(account_status.conditions, view.deadline):
                self._remember(due)
            if account_status == view.account.status:
                account_status = None
        return Plan(self._changed, account_status, self._due, self._settled, failed)

    def _census(self) -> Census | None:
        observation = self._view.observation
        if not isinstance(observation, Listed) or observation.trust.missing:
            return None
        channels = observation.listing.channels
        undeclared = channels.keys() - self._findings.by_channel_id.keys() - self._kept_ids
        unmanaged = [
            channel_id
            for channel_id in undeclared
            if channels[channel_id].number not in self._findings.by_number
            and not self._rivals.foremost(channel_id)
        ]
        return Census.of(channels, unmanaged)
