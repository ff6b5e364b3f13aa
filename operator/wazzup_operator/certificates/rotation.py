"""Decides what is written next, so that what is served is always trusted. Pure.

A change of CA is a chain of single writes, each safe to be the last for a while:

1. Secret: the new CA and its key; the old CA among the former ones; the old pair is still served.
2. Configuration: the old and the new CA are trusted.
3. Secret: a pair of the new CA, once every API server has seen 2.
4. Configuration, then Secret: the old CA is dropped, once every pair of it has expired.

A lost Secret and a damaged CA go the same way: the old CA is then the one that the configuration
still trusts. The Secret comes first where something is added and last where something goes, so that
whatever the configuration trusts and the Secret does not know comes from elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from wazzup_operator.certificates.content import Content
from wazzup_operator.certificates.issue import (
    authority_problem,
    dump_bundle,
    expired,
    load_bundle,
    make_authority,
    make_serving,
    renewal,
    serving_problem,
    signed_by,
)

MOST_FORMER = 8
"""Former CAs at most, so that neither a loop of losses nor a foreign bundle fills the Secret."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of the serving certificate: its DNS names and how long it is valid."""

    names: tuple[str, ...]
    validity: timedelta


@dataclass(frozen=True, slots=True)
class WriteSecret:
    """Write this content into the Secret; `why` is a sentence for the log."""

    content: Content
    why: str


@dataclass(frozen=True, slots=True)
class WriteBundle:
    """Write these PEMs as the caBundle of every webhook; `why` is a sentence for the log."""

    bundle: bytes
    why: str


def next_step(
    content: Content, bundles: Sequence[bytes], now: datetime, terms: Terms, *, settled: bool
) -> WriteSecret | WriteBundle | None:
    """Return the next write, or None when there is nothing to do at present.

    `bundles` are the caBundles of all webhooks, none where there is no configuration. `settled`
    tells that they have had the present CA for long enough that no API server is without it.
    """
    if content.authority is None:
        return _new_authority(content, now, terms, "there was none that could be used")
    if problem := authority_problem(content.authority, now):
        return _new_authority(content, now, terms, f"the one before {problem}")
    if step := _adopt(content, bundles, now, terms):
        return step
    trusted = dump_bundle(_trusted(content, now))
    if any(bundle != trusted for bundle in bundles):
        return WriteBundle(trusted, "The webhook configuration trusts the CA of the Secret now")
    problem = _pair_problem(content, terms, now)
    if problem:
        if bundles and content.former and not settled:
            return None
        return _new_pair(content, now, terms, problem)
    if content.former and _is_over(content, now):
        return WriteSecret(
            replace(content, former=(), former_until=None),
            "The former CA of the webhook's certificate is forgotten: nothing of it is valid",
        )
    return None


def next_due(content: Content) -> datetime | None:
    """Return when the clock alone brings the next write; None: it may be due already."""
    if content.authority is None or content.serving is None:
        return None
    times = [renewal(content.authority.certificate), renewal(content.serving.certificate)]
    if content.former and content.former_until:
        times.append(content.former_until)
    return min(times)


def _new_authority(content: Content, now: datetime, terms: Terms, why: str) -> WriteSecret:
    before = (content.authority.certificate,) if content.authority else ()
    former = _former(content, [*before, *content.former], now)
    until = _until(content, now, terms) if former else None
    return WriteSecret(
        Content(make_authority(now), content.serving, former, until),
        f"A new CA for the webhook's certificate was made: {why}",
    )


def _adopt(
    content: Content, bundles: Sequence[bytes], now: datetime, terms: Terms
) -> WriteSecret | None:
    """Keep trusting what the configuration trusts: somebody may serve from it, as after a restore.

    Also drops what has expired, and puts a date where that was lost.
    """
    former = _former(content, [*content.former, *_strangers(content, bundles)], now)
    if former == content.former and (content.former_until or not former):
        return None
    added = set(former) - set(content.former) or not content.former_until
    until = _until(content, now, terms) if added else content.former_until
    return WriteSecret(
        replace(content, former=former, former_until=until if former else None),
        "The former CAs of the webhook's certificate were brought up to date",
    )


def _new_pair(content: Content, now: datetime, terms: Terms, why: str) -> WriteSecret:
    assert content.authority
    serving = make_serving(content.authority, terms.names, now, terms.validity)
    return WriteSecret(
        replace(content, serving=serving),
        f"A new serving certificate for the webhook was made: the one before {why}",
    )


def _pair_problem(content: Content, terms: Terms, now: datetime) -> str | None:
    assert content.authority
    if content.serving is None:
        return "was missing or damaged"
    return serving_problem(content.serving, content.authority.certificate, terms.names, now)


def _trusted(content: Content, now: datetime) -> tuple[x509.Certificate, ...]:
    assert content.authority
    former = () if _is_over(content, now) else content.former
    return (content.authority.certificate, *former)


def _is_own(content: Content) -> bool:
    """Return whether the pair that is served is of the present CA."""
    return bool(
        content.authority
        and content.serving
        and signed_by(content.serving.certificate, content.authority.certificate)
    )


def _is_over(content: Content, now: datetime) -> bool:
    until = content.former_until
    return until is not None and until < now and _is_own(content)


def _until(content: Content, now: datetime, terms: Terms) -> datetime:
    """Return when every pair that a former CA ever signed has expired, as far as can be known."""
    times = [now + terms.validity]
    if content.serving:
        times.append(content.serving.certificate.not_valid_after_utc)
    if content.former_until:
        times.append(content.former_until)
    return max(times)


def _strangers(content: Content, bundles: Sequence[bytes]) -> list[x509.Certificate]:
    own = content.authority.certificate if content.authority else None
    return [each for bundle in bundles for each in load_bundle(bundle) if each != own]


def _former(
    content: Content, candidates: Iterable[x509.Certificate], now: datetime
) -> tuple[x509.Certificate, ...]:
    unique = [each for each in dict.fromkeys(candidates) if not expired(each, now)]
    serving = content.serving
    if serving:
        # The one that is needed right now is never among those that are too many.
        unique.sort(key=lambda each: not signed_by(serving.certificate, each))
    return tuple(unique[:MOST_FORMER])
