"""Builds objects, listings and a small world that runs passes."""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from wazzup_operator.domain.listing import ListedChannel, Listing, Number
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.transport import Transport
from wazzup_operator.kube.client import path
from wazzup_operator.reconcile.find import Findings, find
from wazzup_operator.reconcile.finding import Conflict, NotListed
from wazzup_operator.reconcile.observation import Listed, Observation, Trouble, Unlisted
from wazzup_operator.reconcile.plan import Plan, plan
from wazzup_operator.reconcile.trust import Missing, Trust
from wazzup_operator.reconcile.view import AccountView, Settled
from wazzup_operator.resources.account import AccountSpec, SecretKeyRef, WazzupAccount
from wazzup_operator.resources.base import API_VERSION, Condition, NamespacedName, ObjectMeta
from wazzup_operator.resources.channel import (
    AccountRef,
    ChannelSpec,
    ChannelStatus,
    WazzupChannel,
)
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS
from wazzup_operator.settings import Address, ControllerSettings

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
DEADLINE = timedelta(minutes=15)
PHONE = "+79865784457"
OTHER_PHONE = "+79990001122"
ACCOUNT = NamespacedName("shop", "default")

PAUSED = {"wazzup.dev/paused": "true"}


def at(minutes: float) -> datetime:
    """Return the time `minutes` after the start of the tests."""
    return NOW + timedelta(minutes=minutes)


def meta(
    name: str,
    namespace: str = "shop",
    *,
    uid: str | None = None,
    version: int = 1,
    generation: int = 1,
    created: float = 0,
    deleting: bool = False,
    annotations: dict[str, str] | None = None,
    labels: tuple[tuple[str, str], ...] = (),
) -> ObjectMeta:
    """Return metadata; `created` in minutes after the objects' first day."""
    return ObjectMeta(
        name=name,
        namespace=namespace,
        uid=uid or f"uid-{namespace}-{name}",
        resource_version=str(version),
        generation=generation,
        creation_timestamp=NOW - timedelta(days=30) + timedelta(minutes=created),
        deletion_timestamp=NOW if deleting else None,
        annotations=annotations or {},
        labels=labels,
    )


def channel(
    name: str = "support",
    number: str = PHONE,
    *,
    status: ChannelStatus | None = None,
    account: str = "default",
    active: bool = True,
    transport: Any = "whatsapp",
    channel_id: str | None = None,
    display_name: str | None = None,
    **metadata: Any,
) -> WazzupChannel:
    """Return a WazzupChannel; `metadata` as in `meta`."""
    return WazzupChannel(
        metadata=meta(name, **metadata),
        spec=ChannelSpec(
            phone_number=number,
            active=active,
            account_ref=AccountRef(name=account),
            transport=Transport(transport),
            channel_id=channel_id,
            display_name=display_name,
        ),
        status=status or ChannelStatus(),
    )


def account(
    name: str = "default", *, poll: str = "60s", secret: str = "wazzup", **metadata: Any
) -> WazzupAccount:
    """Return a WazzupAccount; `metadata` as in `meta`."""
    return WazzupAccount(
        metadata=meta(name, **metadata),
        spec=AccountSpec(api_key_secret_ref=SecretKeyRef(name=secret), poll_interval=poll),
    )


def row(
    channel_id: str = "a",
    state: str = "active",
    number: str | None = PHONE,
    transport: str = Transport.WHATSAPP,
    name: str | None = None,
) -> ListedChannel:
    """Return one channel of a listing."""
    plain_id = number.removeprefix("+") if number else None
    return ListedChannel(channel_id, Transport(transport), plain_id, state, name)


def settings(**changes: Any) -> ControllerSettings:
    """Return the controller's settings, with defaults where there are any."""
    return replace(
        ControllerSettings(
            wazzup_url="https://api.wazzup24.com",
            namespaces=(),
            metrics_address=Address("", 8080),
            health_address=Address("", 8081),
            min_poll_interval=timedelta(seconds=5),
            progress_deadline=timedelta(minutes=15),
            stale_after=timedelta(minutes=10),
        ),
        **changes,
    )


def listed(
    *rows: ListedChannel,
    unconfirmed: Iterable[str] = (),
    ambiguous_ids: Iterable[str] = (),
    ambiguous_numbers: Iterable[Number] = (),
) -> Listed:
    """Return a listing as a pass sees it."""
    listing = Listing.of(rows, ambiguous_ids, ambiguous_numbers)
    missing = dict.fromkeys(unconfirmed, Missing(0.0, None))
    return Listed(listing, Trust(frozenset(listing.channels), missing))


def unlisted(reason: str = "AccountUnreachable", *, stale: bool = False) -> Unlisted:
    """Return an account that gives no listing."""
    return Unlisted(Trouble(Reason(reason), f"{reason} it is."), stale)


GONE = unlisted("AccountNotFound", stale=True)
"""The observation of an account that does not exist."""


def condition(status: Any, type_: str) -> Condition | None:
    """Return a condition of a status."""
    return next((each for each in status.conditions if each.type == type_), None)


def ready(status: Any) -> tuple[str, str]:
    """Return Ready's status and reason."""
    found = condition(status, "Ready")
    assert found
    return found.status, found.reason


def progress(status: Any) -> str | None:
    """Return Reconciling or Stalled if present; never both."""
    found = [each for each in status.conditions if each.type in {"Reconciling", "Stalled"}]
    assert len(found) <= 1
    assert all(each.status == "True" for each in found)
    return found[0].type if found else None


def on_record(channel: WazzupChannel) -> str | None:
    """Return the channel id recorded from the account that the object refers to."""
    here = channel.status.account in {None, channel.spec.account_ref.name}
    return channel.status.channel_id if here else None


def finished(steps: Generator[None, None, Any]) -> Any:
    """Run a computation to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def make_plan(view: AccountView) -> Plan:
    """Find and plan."""
    planned: Plan = finished(plan(view, finished(find(view))))
    return planned


class World:
    """The objects of one or more accounts. `step` runs a pass and writes the statuses.

    Statuses are encoded and decoded, as on their way to the API server and back.
    """

    def __init__(self, *objects: WazzupChannel | WazzupAccount) -> None:
        self.accounts = {ACCOUNT: account()}
        self.channels: dict[NamespacedName, WazzupChannel] = {}
        self.found: dict[str, str | None] = {}
        self.settled: dict[NamespacedName, Mapping[str, Settled]] = {}
        self.put(*objects)

    def __repr__(self) -> str:
        """Show the objects when a property fails."""
        return "\n".join(map(str, [*self.accounts.values(), *self.channels.values()]))

    def put(self, *objects: WazzupChannel | WazzupAccount) -> None:
        """Add or replace objects."""
        for each in objects:
            if isinstance(each, WazzupChannel):
                self.channels[each.metadata.key] = each
            else:
                self.accounts[each.metadata.key] = each

    def get(self, name: str = "support", namespace: str = "shop") -> WazzupChannel:
        """Return a channel object."""
        return self.channels[namespace, name]

    def status(self, name: str = "support", namespace: str = "shop") -> ChannelStatus:
        """Return a channel object's status."""
        return self.get(name, namespace).status

    def edit(self, name: str = "support", **spec: Any) -> None:
        """Change an object's spec, and with it its generation."""
        old = self.get(name)
        metadata = replace(old.metadata, generation=old.metadata.generation + 1)
        self.put(replace(old, metadata=metadata, spec=replace(old.spec, **spec)))

    def move(self, account: str, name: str = "support", **spec: Any) -> None:
        """Change an object's accountRef."""
        self.edit(name, account_ref=AccountRef(name=account), **spec)
        self.found.pop(self.get(name).metadata.uid, None)

    def annotate(self, annotations: dict[str, str], name: str = "support") -> None:
        """Replace an object's annotations."""
        old = self.get(name)
        self.put(replace(old, metadata=replace(old.metadata, annotations=annotations)))

    def remove(self, name: str, namespace: str = "shop") -> None:
        """Delete a channel object."""
        gone = self.channels.pop((namespace, name))
        self.found.pop(gone.metadata.uid, None)

    def claimed(self, channel: WazzupChannel) -> str | None:
        """Return the id of the channel that the object found, else the one it recorded."""
        return self.found.get(channel.metadata.uid, on_record(channel))

    @property
    def shared_ids(self) -> set[str]:
        """The channel ids that objects of several accounts claim."""
        claims = {(self.claimed(each), each.account_key) for each in self.channels.values()}
        count = Counter(channel_id for channel_id, _ in claims)
        return {channel_id for channel_id in count if channel_id and count[channel_id] > 1}

    def rivals(self, channel_id: str, account: NamespacedName) -> list[WazzupChannel]:
        """Return other accounts' objects that found this channel, or have it on record."""
        return [
            each
            for each in self.channels.values()
            if self.claimed(each) == channel_id
            and each.account_key in self.accounts.keys() - {account}
        ]

    def view(
        self,
        observation: Observation | None,
        now: datetime,
        key: NamespacedName = ACCOUNT,
        last_sync: datetime | None = None,
    ) -> AccountView:
        """Return the input of a pass."""
        return AccountView(
            key=key,
            account=self.accounts.get(key),
            channels=[each for each in self.channels.values() if each.account_key == key],
            observation=observation,
            claims=self,
            last_sync=last_sync,
            now=now,
            deadline=DEADLINE,
        )

    def step(
        self,
        observation: Observation | None,
        now: datetime,
        key: NamespacedName = ACCOUNT,
        last_sync: datetime | None = None,
    ) -> Plan:
        """Run a pass over an account, write its statuses, and return the plan."""
        view = self.view(observation, now, key, last_sync)
        findings = finished(find(view))
        self.found.update(_claims(findings))
        planned = finished(plan(view, findings))
        view = replace(view, settled=self.settled.get(key, {}))
        found = finished(find(view))
        assert list(found) == list(findings), "a finding depends on what earlier plans settled"
        again = finished(plan(view, found))
        assert again == planned, "it depends on what earlier plans settled"
        self.settled[key] = again.settled
        for each, status in planned.statuses:
            self.put(_stored(each, status))
        if planned.account_status:
            self.put(_stored(self.accounts[key], planned.account_status))
        return planned


def _claims(findings: Findings) -> dict[str, str | None]:
    """Return the channel id that each object claims, by uid, where the pass learned it."""
    claims: dict[str, str | None] = {}
    for each, finding in findings:
        if isinstance(finding, ListedChannel):
            claims[each.metadata.uid] = finding.channel_id
        elif isinstance(finding, NotListed) or (
            isinstance(finding, Conflict) and not finding.outage
        ):
            claims[each.metadata.uid] = None
    return claims


def resource_of(object_: WazzupChannel | WazzupAccount) -> Any:
    """Return the kind's Resource."""
    return CHANNELS if isinstance(object_, WazzupChannel) else ACCOUNTS


def body(object_: WazzupChannel | WazzupAccount) -> Any:
    """Return an object as the API server holds it."""
    dumped = _JSON[type(object_)].dump_python(
        object_, mode="json", by_alias=True, exclude_none=True
    )
    return {**dumped, "status": resource_of(object_).status_json(object_.status)}


def path_of(object_: WazzupChannel | WazzupAccount) -> str:
    """Return an object's path in the API."""
    return path(API_VERSION, resource_of(object_).plural, *object_.metadata.key)


_JSON = {kind: TypeAdapter(kind) for kind in (WazzupChannel, WazzupAccount)}


def _stored(object_: Any, status: Any) -> Any:
    stored = resource_of(object_).decode(body(replace(object_, status=status)))
    assert stored.status == status, "a status changes when it is encoded and decoded"
    return replace(object_, status=stored.status)


def names(planned: Plan) -> set[str]:
    """Return the names of the objects that a plan writes to."""
    return {each.metadata.name for each, _ in planned.statuses}
