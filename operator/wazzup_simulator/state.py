"""State of the simulated service: accounts, keys, channels and the history of states."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from wazzup_simulator.actions import (
    ACCOUNT_ACTIONS,
    ACTIONS,
    FIRST_STATES,
    FOREIGN_SCAN,
    Action,
    Condition,
    perform,
)
from wazzup_simulator.refusals import ConflictError, InvalidError, NotFoundError

Row = dict[str, object]


@dataclass
class Channel:
    """A channel. Its `id` is fixed, even if the API's row is overridden."""

    id: str
    condition: Condition
    fields: Row

    @property
    def row(self) -> Row:
        """The row in the listing ("Working with channels"; the name: seen live)."""
        row = dict(self.fields)
        state = self.condition.wire_state
        if state is not None:
            row["state"] = state
        return row

    @property
    def number(self) -> tuple[object, object]:
        """The transport and number that identify a channel."""
        return self.fields.get("transport"), self.fields.get("plainId")


@dataclass(frozen=True)
class NewChannel:
    """A channel to add."""

    phone: str
    transport: str = "whatsapp"
    name: str | None = None
    state: str | None = None
    channel_id: str | None = None
    duplicate: bool = False

    def __post_init__(self) -> None:
        if not (self.phone.isascii() and self.phone.isdigit()):
            raise InvalidError("The field phone must be digits only, with the country code.")
        if self.transport not in FIRST_STATES:
            raise InvalidError(f"The transport must be one of {', '.join(sorted(FIRST_STATES))}.")


@dataclass
class Account:
    """A Wazzup account. All its keys list the same channels."""

    id: str
    keys: list[str] = field(default_factory=list)
    sidecar_keys: list[str] = field(default_factory=list)
    forbidden: bool = False
    channels: dict[str, Channel] = field(default_factory=dict)

    def has(self, key: str) -> bool:
        """Return whether the key belongs to this account."""
        return key in self.keys or key in self.sidecar_keys


@dataclass(frozen=True)
class Change:
    """A channel's state changed at `time`. `state` is None if it has none or was deleted."""

    time: float
    account: str
    channel: str
    state: object


class Service:
    """All accounts and their history."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.accounts: dict[str, Account] = {}
        self.history: list[Change] = []

    def account(self, account_id: str) -> Account:
        """Return the account with this id."""
        if account_id not in self.accounts:
            raise NotFoundError(f"There is no account {account_id}.")
        return self.accounts[account_id]

    def holder(self, key: str) -> Account | None:
        """Return the account of a key."""
        return next((found for found in self.accounts.values() if found.has(key)), None)

    def add_account(
        self,
        account_id: str | None = None,
        keys: Sequence[str] = (),
        sidecar_keys: Sequence[str] = (),
        forbidden: bool = False,
    ) -> Account:
        """Create an account. The default ids are default, default-2 and so on."""
        account_id = account_id or self._free_id()
        if account_id in self.accounts:
            raise ConflictError(f"The account {account_id} already exists.")
        account = Account(account_id, forbidden=forbidden)
        self.set_keys(account, keys, sidecar_keys)
        self.accounts[account_id] = account
        return account

    def _free_id(self) -> str:
        names = ("default" if n == 1 else f"default-{n}" for n in range(1, len(self.accounts) + 2))
        return next(name for name in names if name not in self.accounts)

    def set_keys(self, account: Account, keys: Sequence[str], sidecar_keys: Sequence[str]) -> None:
        """Replace the account's keys. A key belongs to one account only."""
        wanted = [*keys, *sidecar_keys]
        if len(set(wanted)) < len(wanted):
            raise ConflictError("A key is listed twice.")
        for key in wanted:
            if not (key.isascii() and key.isprintable()) or " " in key:
                raise InvalidError("A key must be printable ASCII characters without spaces.")
            if self.holder(key) not in (None, account):
                raise ConflictError("A key belongs to another account.")
        account.keys, account.sidecar_keys = list(keys), list(sidecar_keys)

    def channel(self, account_id: str, channel_id: str) -> Channel:
        """Return the channel with this id in this account."""
        channels = self.account(account_id).channels
        if channel_id not in channels:
            raise NotFoundError(f"The account {account_id} has no channel {channel_id}.")
        return channels[channel_id]

    def add_channels(self, account_id: str, wanted: Iterable[NewChannel]) -> list[Channel]:
        """Add numbers. A number that the account already has gets its old channel back.

        Source: the rules for channels in the manual.
        """
        account = self.account(account_id)
        by_number: dict[tuple[object, object], Channel] = {}
        for channel in account.channels.values():
            by_number.setdefault(channel.number, channel)
        added = []
        for new in wanted:
            known = by_number.get((new.transport, new.phone))
            if known is None or new.duplicate:
                channel = self._create(account, new)
            else:
                channel = self._restore(account, known, new)
            by_number.setdefault(channel.number, channel)
            added.append(channel)
        return added

    def _create(self, account: Account, new: NewChannel) -> Channel:
        channel_id = new.channel_id or str(uuid.uuid4())
        if any(channel_id in other.channels for other in self.accounts.values()):
            raise ConflictError(f"The channel {channel_id} already exists.")
        fields: Row = {
            "channelId": channel_id,
            "transport": new.transport,
            "plainId": new.phone,
            "name": new.name or new.phone,
        }
        condition = Condition(FIRST_STATES[new.transport])
        channel = Channel(channel_id, condition, fields)
        account.channels[channel_id] = channel
        if new.state is not None:
            channel.condition = condition.showing(new.state)
        self._record_change(account, channel.id, channel.condition.wire_state)
        return channel

    def _restore(self, account: Account, known: Channel, new: NewChannel) -> Channel:
        if new.channel_id not in (None, known.id):
            raise ConflictError(f"This number already has the channel {known.id}.")
        if new.name is not None:
            known.fields["name"] = new.name
        condition = perform("tick", ACTIONS["tick"], new.transport, known.condition)
        if new.state is not None:
            condition = condition.showing(new.state)
        self._set_condition(account, known, condition)
        return known

    def patch_channel(
        self, account_id: str, channel_id: str, fields: Mapping[str, object]
    ) -> Channel:
        """Override fields of the row with a JSON merge patch: None removes a field."""
        channel = self.channel(account_id, channel_id)
        for name, value in fields.items():
            if name == "state":
                self._set_condition(
                    self.account(account_id), channel, channel.condition.showing(value)
                )
            elif value is None:
                channel.fields.pop(name, None)
            else:
                channel.fields[name] = value
        return channel

    def delete_channel(self, account_id: str, channel_id: str) -> None:
        """Delete a channel with its messages; `untick` keeps them."""
        channel = self.channel(account_id, channel_id)
        account = self.account(account_id)
        del account.channels[channel.id]
        self._record_change(account, channel.id, None)

    def act(self, account_id: str, channel_id: str, name: str, phone: str | None = None) -> Channel:
        """Perform one of the ACTIONS; `phone` is the number of the scanning phone."""
        channel = self.channel(account_id, channel_id)
        action = _find_action(ACTIONS, name)
        if phone is not None and not name.startswith("scan"):
            raise InvalidError(f"The action {name} takes no phone.")
        if phone not in (None, channel.fields.get("plainId")):
            action = FOREIGN_SCAN
        condition = perform(name, action, channel.fields.get("transport"), channel.condition)
        self._set_condition(self.account(account_id), channel, condition)
        return channel

    def act_on_account(self, account_id: str, name: str) -> Account:
        """Perform one of the ACCOUNT_ACTIONS."""
        account = self.account(account_id)
        action = _find_action(ACCOUNT_ACTIONS, name)
        for channel in account.channels.values():
            condition = perform(name, action, None, channel.condition)
            self._set_condition(account, channel, condition)
        return account

    def _set_condition(self, account: Account, channel: Channel, condition: Condition) -> None:
        before, channel.condition = channel.condition, condition
        if condition.wire_state != before.wire_state:
            self._record_change(account, channel.id, condition.wire_state)

    def _record_change(self, account: Account, channel_id: str, state: object) -> None:
        self.history.append(Change(self._clock(), account.id, channel_id, state))


def _find_action(actions: Mapping[str, Action], name: str) -> Action:
    if name not in actions:
        raise NotFoundError(f"Unknown action {name}. Actions: {', '.join(actions)}.")
    return actions[name]
