"""From an account's channels to files, keeping what people wrote in them. Pure."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wazzup_operator.domain.listing import ListedChannel
from wazzup_operator.domain.states import State, judge
from wazzup_operator.domain.transport import Transport
from wazzup_operator.gitops.check import Declared, check, declared
from wazzup_operator.gitops.edit import CannotEdit, scalar, set_spec
from wazzup_operator.gitops.manifests import is_plain_string, read
from wazzup_operator.gitops.names import Called, names
from wazzup_operator.gitops.problem import Severity
from wazzup_operator.gitops.schema import is_applicable
from wazzup_operator.resources import account, channel
from wazzup_operator.resources.base import API_VERSION
from wazzup_operator.wazzup.survey import Survey


@dataclass(frozen=True, slots=True)
class Target:
    """Names of what is written."""

    account: str
    namespace: str | None
    secret: str


@dataclass(frozen=True, slots=True)
class File:
    """A file that exists, with the operator's objects in it."""

    name: str
    text: str
    objects: tuple[Declared | None, ...]
    """None for other kinds, and for objects that are not valid."""

    @classmethod
    def of(cls, name: str, text: str) -> "File":
        """Read a file. Raises NotYaml."""
        return cls(name, text, tuple(declared(each) for each in read(name, text)))


@dataclass(frozen=True, slots=True)
class Choice:
    """The channel that an object of this number declares, and the number's other channels."""

    listed: ListedChannel
    others: tuple[ListedChannel, ...]


@dataclass(slots=True)
class Export:
    """The outcome. `new` and `changed` are texts by file name."""

    new: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Lines about channels that no object declares, by the reason."""

    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What a person has to do by hand."""

    active: int = 0
    off: int = 0

    def count(self, listed: ListedChannel) -> None:
        """Count the channel of an object."""
        if listed.state is State.OFF:
            self.off += 1
        else:
            self.active += 1

    def leave_out(self, reason: str, line: str) -> None:
        """Add a channel that no object declares."""
        self.left_out.setdefault(reason, []).append(line)


def choose(survey: Survey, declared_ids: Container[str]) -> list[Choice]:
    """Choose a channel of each number, sorted by number and id, as Wazzup promises no order.

    One whose id is declared already, else an active one, else the only one that is on, else the
    first.
    """
    chosen = []
    for _, unsorted in sorted(survey.listing.by_number.items()):
        listed = sorted(unsorted, key=lambda each: each.channel_id)
        known = [each for each in listed if each.channel_id in declared_ids]
        active = [each for each in listed if each.state is State.ACTIVE]
        on = [each for each in listed if each.state is not State.OFF]
        best = [*known, *active, *(on if len(on) == 1 else ()), *listed][0]
        chosen.append(Choice(best, tuple(each for each in listed if each is not best)))
    return chosen


def export(survey: Survey, target: Target, files: Sequence[File]) -> Export:
    """Return what is to be written."""
    done = Export()
    known = [(file, index, each) for file, index, each in _objects(files) if _is_of(each, target)]
    ids = {each.spec.channel_id for _, _, each in known if each.spec.channel_id}
    choices = {each.listed.number: each for each in choose(survey, ids)}
    for file in files:
        own = [(index, each) for place, index, each in known if place is file]
        _update(file, own, choices, survey, done)
        if file.name not in done.changed and (own or _has_account([file], target)):
            done.unchanged += 1
    declared_already = {each.number[1] for _, _, each in known}
    new = [each for number, each in choices.items() if number not in declared_already]
    taken = {each.key.name for _, _, each in _objects(files) if each.key.kind == channel.KIND}
    taken |= {each.name.removeprefix("channel-").removesuffix(".yaml") for each in files}
    if not _has_account(files, target):
        done.new[f"account-{target.account}.yaml"] = _account(target)
    _add(new, target, taken, done)
    _leave_out(survey, choices.values(), ids, done)
    return done


def _objects(files: Iterable[File]) -> Iterator[tuple[File, int, Declared]]:
    for file in files:
        for index, each in enumerate(file.objects):
            if each is not None:
                yield file, index, each


def _is_of(object_: Declared, target: Target) -> bool:
    """Return whether this is a channel of the account."""
    if object_.key.kind != channel.KIND or object_.spec.account_ref.name != target.account:
        return False
    return _same_namespace(object_, target)


def _same_namespace(object_: Declared, target: Target) -> bool:
    return target.namespace is None or object_.key.namespace in {None, target.namespace}


def _has_account(files: Sequence[File], target: Target) -> bool:
    return any(
        each.key.kind == account.KIND
        and each.key.name == target.account
        and _same_namespace(each, target)
        for _, _, each in _objects(files)
    )


def _update(
    file: File,
    known: Sequence[tuple[int, Declared]],
    choices: Mapping[Any, Choice],
    survey: Survey,
    done: Export,
) -> None:
    """Update the file's objects of the account."""
    text = file.text
    for index, object_ in known:
        choice = choices.get(object_.number[1])
        listed = _listed(object_, choice, survey)
        if listed is None:
            done.notes.append(
                f'{file.name}: WazzupChannel "{object_.key.name}" was left as it is, because Wazzup'
                " does not list its channel."
            )
            continue
        done.count(listed)
        changes = _changes(object_, listed, several=bool(choice and choice.others))
        try:
            text = set_spec(text, index, changes)
        except CannotEdit:
            done.failures.append(_by_hand(file, object_, changes))
    if text != file.text:
        done.changed[file.name] = text


def _listed(object_: Declared, choice: Choice | None, survey: Survey) -> ListedChannel | None:
    """Return the channel that an object declares, if it is listed with its number."""
    if object_.spec.channel_id is None:
        return choice.listed if choice else None
    listed = survey.listing.channels.get(object_.spec.channel_id)
    return listed if listed and listed.number in {None, object_.number[1]} else None


def _by_hand(file: File, object_: Declared, changes: Mapping[str, bool | str]) -> str:
    fields = ", ".join(f"spec.{key} to {scalar(value)}" for key, value in changes.items())
    return (
        f'{file.name}: WazzupChannel "{object_.key.name}" cannot be changed without rewriting the'
        f" file. Set {fields} by hand."
    )


def _changes(object_: Declared, listed: ListedChannel, *, several: bool) -> dict[str, bool | str]:
    """Return the fields of an existing object that Wazzup contradicts."""
    spec = object_.spec
    changes: dict[str, bool | str] = {}
    on = listed.state is not State.OFF
    if spec.active != on and judge(listed.state, active=spec.active).ready is False:
        changes["active"] = on
    name = _display_name(listed)
    if spec.display_name and name and name != spec.display_name:
        changes["displayName"] = name
    if several and not spec.channel_id:
        changes["channelID"] = listed.channel_id
    return changes


def _add(choices: Sequence[Choice], target: Target, taken: set[str], done: Export) -> None:
    """Add a file for each channel that no object declares yet and that can be declared."""
    fitting = []
    for choice in choices:
        problem = _refusal(_channel(choice, "x", target))
        if problem is None:
            fitting.append(choice)
        else:
            reason = "Channels whose number cannot be declared"
            done.leave_out(reason, f"{_describe(choice.listed)}: {problem}")
    called = [
        Called(each.listed.name, each.listed.transport, each.listed.plain_id or "")
        for each in fitting
    ]
    for choice, name in zip(fitting, names(called, taken), strict=True):
        done.new[f"channel-{name}.yaml"] = _channel(choice, name, target)
        done.count(choice.listed)


def _refusal(text: str) -> str | None:
    """Return why the API server or the webhook would refuse the object, if they would."""
    problems = (each for each in check(read("", text), {}) if each.severity is Severity.ERROR)
    found = next(problems, None)
    return found.message.removeprefix('WazzupChannel "x": ') if found else None


def _leave_out(
    survey: Survey, choices: Iterable[Choice], declared_ids: Container[str], done: Export
) -> None:
    for choice in choices:
        for other in choice.others:
            done.leave_out(
                "Other channels of numbers that are exported",
                f"{_describe(other)}; exported: {choice.listed.channel_id}",
            )
    for listed in survey.listing.channels.values():
        if listed.number is None and listed.channel_id not in declared_ids:
            done.leave_out("Channels without a number", _describe(listed))
    for foreign in survey.others:
        name = f" {scalar(foreign.name)}" if foreign.name else ""
        line = f"{_word(foreign.channel_id)} {_word(foreign.transport)}{name}"
        done.leave_out("Channels of other transports", line)
    for channel_id in sorted(survey.listing.ambiguous_ids):
        done.leave_out("Ambiguous rows, which the operator skips", _word(channel_id))


def _describe(listed: ListedChannel) -> str:
    name = f" {scalar(listed.name)}" if listed.name else ""
    number = f" {_word(listed.plain_id)}" if listed.plain_id else ""
    return f"{listed.channel_id} {listed.transport}{number}{name} ({_word(listed.upstream_state)})"


def _word(text: str) -> str:
    """Return a text as a comment can hold it."""
    return scalar(text)[1:-1]


def _account(target: Target) -> str:
    return _head(account.KIND, target.account, target) + (
        f"  apiKeySecretRef:\n    name: {_plain(target.secret)}\n"
    )


def _channel(choice: Choice, name: str, target: Target) -> str:
    listed = choice.listed
    lines = [f"phoneNumber: {scalar(f'+{listed.plain_id}')}"]
    if listed.state is State.OFF:
        lines.append("active: false")
    if listed.transport is not Transport.WHATSAPP:
        lines.append(f"transport: {listed.transport}")
    if target.account != "default":
        lines.append(f"accountRef:\n    name: {_plain(target.account)}")
    if shown := _display_name(listed):
        lines.append(f"displayName: {scalar(shown)}")
    if choice.others:
        lines.append(f"channelID: {scalar(listed.channel_id)}")
    return _head(channel.KIND, name, target) + "".join(f"  {line}\n" for line in lines)


def _display_name(listed: ListedChannel) -> str | None:
    """Return the name, if an object can have it."""
    return listed.name if listed.name and is_applicable(listed.name) else None


def _head(kind: str, name: str, target: Target) -> str:
    namespace = f"  namespace: {_plain(target.namespace)}\n" if target.namespace else ""
    return (
        f"apiVersion: {API_VERSION}\nkind: {kind}\nmetadata:\n  name: {_plain(name)}\n"
        f"{namespace}spec:\n"
    )


def _plain(name: str) -> str:
    return name if is_plain_string(name) else scalar(name)


def comments(done: Export) -> str:
    """Return the channels that are left out, as comments; empty if there are none."""
    lines = []
    for reason, left_out in done.left_out.items():
        lines += ["#", f"# {reason}:", *(f"# - {each}" for each in sorted(left_out))]
    if not lines:
        return ""
    return "\n".join(["# In the Wazzup account, but not exported:", *lines[1:], ""])


def stream(done: Export) -> str:
    """Return all objects in one text, the account first, the comments last."""
    left_out = comments(done)
    return "---\n".join([*done.new.values(), *([left_out] if left_out else [])])
