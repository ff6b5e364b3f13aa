"""Checks objects in files: each one, then all of them together. Pure."""

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from wazzup_operator.admission.rules import (
    AccountReview,
    ChannelReview,
    LookedUp,
    Outcome,
    evaluate_account,
    evaluate_channel,
    evaluate_lookups,
)
from wazzup_operator.domain.listing import Number
from wazzup_operator.domain.phone import canonical
from wazzup_operator.domain.states import State
from wazzup_operator.gitops.manifests import KINDS, Manifest
from wazzup_operator.gitops.problem import Problem, Severity
from wazzup_operator.gitops.schema import violations
from wazzup_operator.resources import account, channel
from wazzup_operator.resources.account import AccountSpec
from wazzup_operator.resources.base import API_VERSION, JSON, REPLACES
from wazzup_operator.resources.channel import ChannelSpec

_SPECS: dict[str, TypeAdapter[Any]] = {
    channel.KIND: TypeAdapter(ChannelSpec),
    account.KIND: TypeAdapter(AccountSpec),
}
_MIN_POLL_SECONDS = 5.0
"""The operator's default. Its real minimum is not in the files."""


_HOLDERS_NAMED = 10


class Key(NamedTuple):
    """Which object it is. The namespace is None where a tool adds it later."""

    kind: str
    namespace: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A valid object."""

    manifest: Manifest
    key: Key
    spec: Any

    @property
    def number(self) -> tuple[str | None, Number]:
        """The namespace, transport and number that only one object may declare."""
        return self.key.namespace, (self.spec.transport, canonical(self.spec.phone_number))

    @property
    def replaces(self) -> str | None:
        """The name of the object that this one replaces, from its annotation."""
        return (self.manifest.metadata("annotations") or {}).get(REPLACES)

    @property
    def place(self) -> str:
        """The file and line."""
        return f"{self.manifest.file}:{self.manifest.line()}"


def declared(manifest: Manifest) -> Declared | None:
    """Return the object if it is valid, else None."""
    return None if not manifest.known or violations(manifest) else _declared(manifest)


def check(manifests: Iterable[Manifest], former: Mapping[Key, Any]) -> list[Problem]:
    """Return the problems of all objects together, in the order of files and lines.

    `former` are the specs at the base that changes are compared with.
    """
    problems: list[Problem] = []
    valid: list[Declared] = []
    named: set[Key] = set()
    for manifest in manifests:
        named.add(Key(manifest.kind, manifest.namespace, _name(manifest)))
        found = list(_alone(manifest))
        problems += found
        if not found:
            valid.append(_declared(manifest))
    unique, repeated = _repeated(valid)
    channels = [each for each in unique if each.key.kind == channel.KIND]
    accounts = [each for each in unique if each.key.kind == account.KIND]
    problems += repeated
    problems += _reviews(channels, former)
    problems += _account_reviews(accounts, former)
    problems += _missing_accounts(channels, named)
    return sorted(problems)


def _alone(manifest: Manifest) -> Iterator[Problem]:
    """Yield what is wrong with one object, without the others."""
    if not manifest.known:
        yield _problem(manifest, "unknown-kind", _unknown_kind(manifest))
        return
    for key, line in manifest.repeated:
        sentence = f'has the key "{key}" twice; kubectl uses the last one. Remove one of them.'
        yield Problem(manifest.file, line, f"{_title(manifest)} {sentence}", "key-repeated")
    for path, sentence in violations(manifest):
        line = manifest.line(path)
        yield Problem(manifest.file, line, f"{_title(manifest)}: {sentence}.", "schema")


def _unknown_kind(manifest: Manifest) -> str:
    if manifest.kind in KINDS:
        return f"must have apiVersion {API_VERSION}."
    near = difflib.get_close_matches(manifest.kind, KINDS, n=1)
    return f"has an unknown kind; {API_VERSION} has {' and '.join(near or KINDS)}."


def _declared(manifest: Manifest) -> Declared:
    key = Key(manifest.kind, manifest.namespace, _name(manifest))
    spec = _SPECS[manifest.kind].validate_python(_without_nulls(manifest.body["spec"]))
    return Declared(manifest, key, spec)


def _without_nulls(value: JSON) -> JSON:
    return {
        key: _without_nulls(inner) if isinstance(inner, dict) else inner
        for key, inner in value.items()
        if inner is not None
    }


def _repeated(objects: list[Declared]) -> tuple[list[Declared], list[Problem]]:
    """Separate objects that are declared once, or first, from repetitions."""
    first: dict[Key, Declared] = {}
    problems = []
    for each in objects:
        if each.manifest.name and (other := first.get(each.key)):
            sentence = f"is declared twice: also in {other.place}. Remove or rename one of them."
            problems.append(_problem(each.manifest, "object-repeated", sentence))
        else:
            first[each.key if each.manifest.name else Key(*each.key[:2], each.place)] = each
    return list(first.values()), problems


def _reviews(channels: list[Declared], former: Mapping[Key, Any]) -> Iterator[Problem]:
    same: dict[Any, list[Declared]] = defaultdict(list)
    for each in channels:
        same[each.number].append(each)
    for objects in same.values():
        for index, each in enumerate(objects):
            if former.get(each.key) != each.spec:
                before, after = islice(objects, index), islice(objects, index + 1, None)
                yield from _review(each, before, after, former)


def _review(
    object_: Declared,
    before: Iterable[Declared],
    after: Iterable[Declared],
    former: Mapping[Key, Any],
) -> Iterator[Problem]:
    """Apply the webhook's rules. The objects before and after declare the same number."""
    old = former.get(object_.key)
    older = (each for each in after if each.key in former)
    # An object that replaces this one was not there first.
    others = (each for each in chain(before, older) if each.replaces != object_.key.name)
    holders = list(islice(others, _HOLDERS_NAMED))
    names = sorted(each.key.name for each in holders)
    review = ChannelReview(object_.spec, old, object_.replaces, State.UNKNOWN)
    # Accounts get one warning each, not one for each channel.
    looked_up = LookedUp(review, names, account_exists=True)
    outcome = evaluate_channel(review) | evaluate_lookups(looked_up)
    places = ", ".join(each.place for each in holders)
    yield from _answers(object_, outcome, {"number-taken": f" See {places}."})


def _account_reviews(accounts: list[Declared], former: Mapping[Key, Any]) -> Iterator[Problem]:
    for each in accounts:
        if former.get(each.key) != each.spec:
            yield from _answers(each, evaluate_account(AccountReview(each.spec, _MIN_POLL_SECONDS)))


_FIELDS = {
    "transport-changed": "transport",
    "channel-id-changed": "channelID",
    "active-switched": "active",
    "renamed": "displayName",
    "poll-interval-short": "pollInterval",
}
"""The field that a rule is about; the others are about phoneNumber."""


def _answers(
    object_: Declared, outcome: Outcome, more: Mapping[str, str] | None = None
) -> Iterator[Problem]:
    manifest = object_.manifest
    for severity, sentences in (
        (Severity.ERROR, outcome.denials),
        (Severity.WARNING, outcome.warnings),
    ):
        for rule, sentence in sentences.items():
            line = manifest.line(("spec", _FIELDS.get(rule, "phoneNumber")))
            text = f"{_title(manifest)}: {sentence}{(more or {}).get(rule, '')}"
            yield Problem(manifest.file, line, text, rule, severity)


def _missing_accounts(channels: list[Declared], present: set[Key]) -> Iterator[Problem]:
    """Yield one warning for each account, at the first object that refers to it."""
    referring: dict[Key, list[Declared]] = defaultdict(list)
    for each in channels:
        key = Key(account.KIND, each.key.namespace, each.spec.account_ref.name)
        if key not in present:
            referring[key].append(each)
    for key, objects in referring.items():
        manifest = objects[0].manifest
        others = f" and {len(objects) - 1} more refer" if len(objects) > 1 else " refers"
        place = f' of namespace "{key.namespace}"' if key.namespace else ""
        sentence = (
            f'{others} to the WazzupAccount "{key.name}"{place}, which is not among these files.'
            " Add it, unless it is in the cluster already."
        )
        line = manifest.line(("spec", "accountRef", "name"))
        yield Problem(
            manifest.file, line, _title(manifest) + sentence, "account-missing", Severity.WARNING
        )


def _name(manifest: Manifest) -> str:
    return manifest.name or f"{manifest.metadata('generateName')}…"


def _title(manifest: Manifest) -> str:
    """Return the kind, and the name if there is one."""
    name = manifest.name or manifest.metadata("generateName")
    return f'{manifest.kind} "{name}"' if isinstance(name, str) else manifest.kind


def _problem(manifest: Manifest, rule: str, sentence: str) -> Problem:
    return Problem(manifest.file, manifest.line(), f"{_title(manifest)} {sentence}", rule)
