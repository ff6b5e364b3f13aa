"""Decides the next write, so that API servers always trust the served pair. Pure.

A rotation is a series of single writes, and the keeper may stop safely after any of them:

1. Secret: add the new CA and its key, move the old CA to the former ones, keep the old pair.
2. Configuration: trust the old and the new CA.
3. Secret: store a pair signed by the new CA, once every API server has seen 2.
4. Configuration, then Secret: drop the old CA, once every pair that it signed has expired.

An emptied Secret or a damaged CA is replaced the same way; the old CA is then the one that the
configuration still trusts. CAs are added to the Secret first and removed from it last, so a CA
found only in the configuration was not written by this operator.
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

MAX_FORMER = 8
"""Maximum number of former CAs: repeated losses or a foreign bundle must not fill the Secret."""


@dataclass(frozen=True, slots=True)
class ServingRequirements:
    """Required DNS names and validity of the serving certificate."""

    names: tuple[str, ...]
    validity: timedelta


@dataclass(frozen=True, slots=True)
class WriteSecret:
    """Write this content to the Secret, then log `message`."""

    content: Content
    message: str


@dataclass(frozen=True, slots=True)
class WriteBundle:
    """Write this PEM bundle as the caBundle of every webhook, then log `message`."""

    bundle: bytes
    message: str


def next_step(
    content: Content,
    bundles: Sequence[bytes],
    now: datetime,
    requirements: ServingRequirements,
    *,
    propagated: bool,
) -> WriteSecret | WriteBundle | None:
    """Return the next write, or None if nothing is due.

    `bundles` are the caBundles of all webhooks, empty without a configuration. `propagated` says
    that they have held the current CA for long enough for every API server to trust it.
    """
    if content.authority is None:
        return _new_authority(content, now, requirements, "there was no usable one")
    if problem := authority_problem(content.authority, now):
        return _new_authority(content, now, requirements, f"the previous one {problem}")
    if step := _update_former(content, bundles, now, requirements):
        return step
    trusted = dump_bundle(_trusted(content, now))
    if any(bundle != trusted for bundle in bundles):
        return WriteBundle(trusted, "Updated the caBundle of the webhook configuration")
    problem = _pair_problem(content, requirements, now)
    if problem:
        if bundles and content.former and not propagated:
            return None
        return _new_pair(content, now, requirements, problem)
    if content.former and _rotation_over(content, now):
        return WriteSecret(
            replace(content, former=()),
            "Dropped the former CAs of the webhook's certificate: everything they signed has"
            " expired",
        )
    return None


def next_due(content: Content) -> datetime | None:
    """Return when time alone makes a write due; None to check now."""
    if content.authority is None or content.serving is None:
        return None
    times = [renewal(content.authority.certificate), renewal(content.serving.certificate)]
    if content.former and content.former_until:
        times.append(content.former_until)
    return min(times)


def _new_authority(
    content: Content, now: datetime, requirements: ServingRequirements, why: str
) -> WriteSecret:
    previous = (content.authority.certificate,) if content.authority else ()
    former = _former(content, [*previous, *content.former], now)
    return WriteSecret(
        Content(make_authority(now), content.serving, former, _until(content, now, requirements)),
        f"Issued a CA for the webhook's certificate: {why}",
    )


def _update_former(
    content: Content, bundles: Sequence[bytes], now: datetime, requirements: ServingRequirements
) -> WriteSecret | None:
    """Recompute the former CAs: adopt foreign, drop expired, restore a missing former_until.

    After a restore, served pairs may need CAs that only the configuration trusts.
    """
    former = _former(content, [*content.former, *_other_cas(content, bundles)], now)
    if former == content.former and (content.former_until or not former):
        return None
    added = set(former) - set(content.former) or not content.former_until
    until = _until(content, now, requirements) if added else content.former_until
    return WriteSecret(
        replace(content, former=former, former_until=until),
        "Updated the former CAs of the webhook's certificate",
    )


def _new_pair(
    content: Content, now: datetime, requirements: ServingRequirements, why: str
) -> WriteSecret:
    assert content.authority
    serving = make_serving(content.authority, requirements.names, now, requirements.validity)
    return WriteSecret(
        replace(content, serving=serving),
        f"Issued a serving certificate for the webhook: the previous one {why}",
    )


def _pair_problem(content: Content, requirements: ServingRequirements, now: datetime) -> str | None:
    assert content.authority
    if content.serving is None:
        return "was missing or damaged"
    return serving_problem(content.serving, content.authority.certificate, requirements.names, now)


def _trusted(content: Content, now: datetime) -> tuple[x509.Certificate, ...]:
    assert content.authority
    former = () if _rotation_over(content, now) else content.former
    return (content.authority.certificate, *former)


def _is_current(content: Content) -> bool:
    """Return whether the current CA signed the serving pair."""
    return bool(
        content.authority
        and content.serving
        and signed_by(content.serving.certificate, content.authority.certificate)
    )


def _rotation_over(content: Content, now: datetime) -> bool:
    until = content.former_until
    return until is not None and until < now and _is_current(content)


def _until(content: Content, now: datetime, requirements: ServingRequirements) -> datetime:
    """Return a time by which all known pairs of former CAs will have expired."""
    times = [now + requirements.validity]
    if content.serving:
        times.append(content.serving.certificate.not_valid_after_utc)
    if content.former_until:
        times.append(content.former_until)
    return max(times)


def _other_cas(content: Content, bundles: Sequence[bytes]) -> list[x509.Certificate]:
    own = content.authority.certificate if content.authority else None
    return [each for bundle in bundles for each in load_bundle(bundle) if each != own]


def _former(
    content: Content, candidates: Iterable[x509.Certificate], now: datetime
) -> tuple[x509.Certificate, ...]:
    unique = [each for each in dict.fromkeys(candidates) if not expired(each, now)]
    serving = content.serving
    if serving:
        # The CA of the serving pair comes first, so that the limit never drops it.
        unique.sort(key=lambda each: not signed_by(serving.certificate, each))
    return tuple(unique[:MAX_FORMER])
