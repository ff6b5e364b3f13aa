"""kopf's handlers: from kopf's arguments to the rules and back."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import kopf
from pydantic import TypeAdapter, ValidationError

from wazzup_operator.admission.lookups import Holders, Lookups
from wazzup_operator.admission.rules import (
    AccountReview,
    ChannelReview,
    LookedUp,
    Outcome,
    evaluate_account,
    evaluate_channel,
    evaluate_lookups,
)
from wazzup_operator.domain.states import State, named
from wazzup_operator.kube.client import KubeClient
from wazzup_operator.observability import metrics
from wazzup_operator.resources import account, channel
from wazzup_operator.resources.account import AccountSpec
from wazzup_operator.resources.base import GROUP, REPLACES, VERSION, NamespacedName
from wazzup_operator.resources.channel import ChannelSpec

log = logging.getLogger(__name__)

CHANNEL, ACCOUNT = "channel", "account"
"""Handler ids, also the paths in the webhook configuration. They must not change."""

PATHS = {CHANNEL: channel.PLURAL, ACCOUNT: account.PLURAL}
"""The resource that each path reviews."""

S = TypeVar("S")

_channel_spec = TypeAdapter(ChannelSpec)
_account_spec = TypeAdapter(AccountSpec)


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers and their dependencies; `min_poll_seconds` is --min-poll-interval."""

    kube: KubeClient
    lookups: Lookups
    min_poll_seconds: float

    def registry(self) -> kopf.OperatorRegistry:
        """Return a registry with these handlers only."""
        registry = kopf.OperatorRegistry()
        # kopf sends requests right after it logs in, and never later: the login cannot expire.
        kopf.on.login(registry=registry)(self.login)
        options: dict[str, Any] = {"operations": ["CREATE", "UPDATE"], "registry": registry}
        kopf.on.validate(GROUP, VERSION, channel.PLURAL, id=CHANNEL, **options)(self.channel)
        kopf.on.validate(GROUP, VERSION, account.PLURAL, id=ACCOUNT, **options)(self.account)
        return registry

    async def login(self, **kwargs: Any) -> kopf.ConnectionInfo:
        """Return the client's address and credentials of the API server."""
        to, authorization = await self.kube.access()
        scheme, _, token = (authorization or "").partition(" ")
        return kopf.ConnectionInfo(
            server=to.host,
            ca_path=to.ssl_ca_cert,
            ca_data=to.ca_cert_data,
            insecure=not to.verify_ssl,
            certificate_path=to.cert_file,
            private_key_path=to.key_file,
            scheme=scheme or None,
            token=token or None,
            proxy_url=to.proxy,
        )

    async def channel(self, *, body: kopf.Body, warnings: list[str], **kwargs: Any) -> None:
        """Review a WazzupChannel."""
        with _crashes_logged(channel.KIND, body):
            await self._channel(body, kwargs["old"], warnings)

    async def account(self, *, body: kopf.Body, warnings: list[str], **kwargs: Any) -> None:
        """Review a WazzupAccount."""
        with _crashes_logged(account.KIND, body):
            if specs := _changed_specs(_account_spec, body, kwargs["old"]):
                review = AccountReview(specs[0], self.min_poll_seconds)
                _answer(evaluate_account(review), account.KIND, body, warnings)

    async def _channel(
        self, body: kopf.Body, old: Mapping[str, Any] | None, warnings: list[str]
    ) -> None:
        specs = _changed_specs(_channel_spec, body, old)
        if specs is None:
            return
        new, before = specs
        replaces = (body["metadata"].get("annotations") or {}).get(REPLACES)
        review = ChannelReview(new, before, replaces, _recorded_state(body, new))
        outcome = evaluate_channel(review)
        if not outcome.denials:  # a refusal needs no lookup, which may fail
            outcome |= await self._looked_up(review, NamespacedName.of(body["metadata"]))
        _answer(outcome, channel.KIND, body, warnings)

    async def _looked_up(self, review: ChannelReview, key: NamespacedName) -> Outcome:
        """Apply the rules that need lookups.

        Raises AdmissionError with code 500 if a failed lookup leaves them undecided.
        """
        account_key = NamespacedName(key.namespace, review.new.account_ref.name)
        holders, account_exists = await asyncio.gather(  # concurrent: a review has 3 s in all
            self.lookups.holders(key, review.new) if review.old is None else _no_holders(),
            self.lookups.account_exists(account_key),
        )
        outcome = evaluate_lookups(LookedUp(review, holders.names, account_exists))
        if holders.failure and not outcome.denials:
            raise kopf.AdmissionError(holders.failure, code=500)
        return outcome


def _changed_specs(
    adapter: TypeAdapter[S], body: Mapping[str, Any], old: Mapping[str, Any] | None
) -> tuple[S, S | None] | None:
    """Return the new and the old spec (None on CREATE), or None if there is nothing to review."""
    try:
        new = adapter.validate_python(dict(body["spec"]))
        before = adapter.validate_python(dict(old["spec"])) if old else None
    except ValidationError:
        return None  # the CRD's schema refuses it
    if body["metadata"].get("deletionTimestamp") or new == before:
        return None
    return new, before


def _recorded_state(body: Mapping[str, Any], spec: ChannelSpec) -> State:
    """Return the state recorded for the current account. A status may hold anything."""
    status = body.get("status")
    if not isinstance(status, Mapping):
        return State.UNKNOWN
    current = status.get("account") in (None, spec.account_ref.name)
    state = status.get("state")
    return named(state) if current and isinstance(state, str) else State.UNKNOWN


@contextmanager
def _crashes_logged(kind: str, body: kopf.Body) -> Iterator[None]:
    """Log unexpected errors with their traceback, and fail the review."""
    try:
        yield
    except kopf.AdmissionError:
        raise
    except Exception as error:
        name = str(NamespacedName.of(body["metadata"]))
        log.exception("The review of %s %r crashed", kind, name)
        raise kopf.AdmissionError("A handler crashed; see the webhook's log.", code=500) from error


async def _no_holders() -> Holders:
    return Holders([])


def _answer(outcome: Outcome, kind: str, body: kopf.Body, warnings: list[str]) -> None:
    warnings.extend(outcome.warnings.values())
    verdict = "denied" if outcome.denials else "warned" if outcome.warnings else "allowed"
    metrics.webhook_reviews.labels(kind, verdict).inc()
    if outcome.denials:
        name = str(NamespacedName.of(body["metadata"]))
        log.info("%s %r is refused: %s", kind, name, ", ".join(outcome.denials))
        raise kopf.AdmissionError(" ".join(outcome.denials.values()), code=422)
