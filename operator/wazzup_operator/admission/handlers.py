"""kopf's handlers: from a review to the rules and back. Nothing else knows kopf's arguments."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import kopf
from pydantic import TypeAdapter, ValidationError

from wazzup_operator.admission.evidence import Evidence
from wazzup_operator.admission.rules import (
    AccountReview,
    ChannelReview,
    Judgement,
    judge_account,
    judge_channel,
)
from wazzup_operator.observability import metrics
from wazzup_operator.resources import account, channel
from wazzup_operator.resources.account import AccountSpec
from wazzup_operator.resources.base import GROUP, REPLACES, VERSION
from wazzup_operator.resources.channel import ChannelSpec

log = logging.getLogger(__name__)

CHANNEL, ACCOUNT = "channel", "account"
"""Handler ids, which are the paths in the webhook configuration: frozen."""

PATHS = {CHANNEL: channel.PLURAL, ACCOUNT: account.PLURAL}
"""Which resource each path is for."""

S = TypeVar("S")

_channel_spec = TypeAdapter(ChannelSpec)
_account_spec = TypeAdapter(AccountSpec)


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers with what they need; `min_poll_seconds` is the operator's minimum."""

    evidence: Evidence
    min_poll_seconds: float

    def registry(self) -> kopf.OperatorRegistry:
        """Return a registry of these handlers alone."""
        registry = kopf.OperatorRegistry()
        # kopf asks only when it starts, and is started anew when it ends: no login grows old.
        kopf.on.login(registry=registry)(_login)
        reviewed: dict[str, Any] = {"operations": ["CREATE", "UPDATE"], "registry": registry}
        kopf.on.validate(GROUP, VERSION, channel.PLURAL, id=CHANNEL, **reviewed)(self.channel)
        kopf.on.validate(GROUP, VERSION, account.PLURAL, id=ACCOUNT, **reviewed)(self.account)
        return registry

    async def channel(self, *, body: kopf.Body, warnings: list[str], **kwargs: Any) -> None:
        """Review a WazzupChannel."""
        change = _change(_channel_spec, body, kwargs["old"])
        if change is None:
            return
        new, before = change
        metadata = body["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        holders, account_exists = await asyncio.gather(  # at once: there are 3 s for the review
            self.evidence.holders(namespace, name, new) if before is None else _nobody(),
            self.evidence.account_exists(namespace, new.account_ref.name),
        )
        replaces = (metadata.get("annotations") or {}).get(REPLACES)
        review = ChannelReview(new, before, replaces, holders, account_exists)
        _answer(judge_channel(review), body, warnings)

    async def account(self, *, body: kopf.Body, warnings: list[str], **kwargs: Any) -> None:
        """Review a WazzupAccount."""
        change = _change(_account_spec, body, kwargs["old"])
        if change:
            _answer(judge_account(AccountReview(change[0], self.min_poll_seconds)), body, warnings)


def _change(
    adapter: TypeAdapter[S], body: Mapping[str, Any], old: Mapping[str, Any] | None
) -> tuple[S, S | None] | None:
    """Return the spec and the one before, None on CREATE; or None where nothing is to be said."""
    try:
        new = adapter.validate_python(dict(body["spec"]))
        before = adapter.validate_python(dict(old["spec"])) if old else None
    except ValidationError:
        return None  # the CRD's schema has the word
    if body["metadata"].get("deletionTimestamp") or new == before:
        return None
    return new, before


async def _nobody() -> list[str]:
    return []


def _answer(judgement: Judgement, body: kopf.Body, warnings: list[str]) -> None:
    warnings.extend(judgement.warnings.values())
    verdict = "denied" if judgement.denials else "warned" if judgement.warnings else "allowed"
    metrics.webhook_reviews.labels(str(body["kind"]), verdict).inc()
    if judgement.denials:
        metadata = body["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}"
        log.info("%s %s is refused: %s", body["kind"], name, ", ".join(judgement.denials))
        raise kopf.AdmissionError(" ".join(judgement.denials.values()), code=422)


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
