"""kopf's handlers: from a review to the rules and back. Nothing else knows kopf's arguments."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from wazzup_operator.domain.states import State
from wazzup_operator.kube.client import KubeClient
from wazzup_operator.observability import metrics
from wazzup_operator.resources import account, channel
from wazzup_operator.resources.account import AccountSpec
from wazzup_operator.resources.base import GROUP, REPLACES, VERSION, NamespacedName
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

    kube: KubeClient
    evidence: Evidence
    min_poll_seconds: float

    def registry(self) -> kopf.OperatorRegistry:
        """Return a registry of these handlers alone."""
        registry = kopf.OperatorRegistry()
        # kopf asks only when it starts, and is started anew when it ends: no login grows old.
        kopf.on.login(registry=registry)(self.login)
        reviewed: dict[str, Any] = {"operations": ["CREATE", "UPDATE"], "registry": registry}
        kopf.on.validate(GROUP, VERSION, channel.PLURAL, id=CHANNEL, **reviewed)(self.channel)
        kopf.on.validate(GROUP, VERSION, account.PLURAL, id=ACCOUNT, **reviewed)(self.account)
        return registry

    async def login(self, **kwargs: Any) -> kopf.ConnectionInfo:
        """Return the way to the API server, which is the client's."""
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
        with _crashes_logged():
            await self._channel(body, kwargs["old"], warnings)

    async def account(self, *, body: kopf.Body, warnings: list[str], **kwargs: Any) -> None:
        """Review a WazzupAccount."""
        with _crashes_logged():
            if change := _change(_account_spec, body, kwargs["old"]):
                review = AccountReview(change[0], self.min_poll_seconds)
                _answer(judge_account(review), account.KIND, body, warnings)

    async def _channel(
        self, body: kopf.Body, old: Mapping[str, Any] | None, warnings: list[str]
    ) -> None:
        change = _change(_channel_spec, body, old)
        if change is None:
            return
        new, before = change
        metadata = body["metadata"]
        key = NamespacedName.of(metadata)
        account_key = NamespacedName(key.namespace, new.account_ref.name)
        holders, account_exists = await asyncio.gather(  # at once: there are 3 s for the review
            self.evidence.holders(key, new) if before is None else _nobody(),
            self.evidence.account_exists(account_key),
        )
        replaces = (metadata.get("annotations") or {}).get(REPLACES)
        state = _last_state(body, new)
        review = ChannelReview(new, before, replaces, holders, account_exists, state)
        _answer(judge_channel(review), channel.KIND, body, warnings)


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


def _last_state(body: Mapping[str, Any], spec: ChannelSpec) -> State:
    """Return the state that the account last showed; the status is anybody's to write."""
    status = body.get("status")
    if not isinstance(status, Mapping):
        return State.UNKNOWN
    here = status.get("account") in (None, spec.account_ref.name)
    state = status.get("state")
    return State(state) if here and state in list(State) else State.UNKNOWN


@contextmanager
def _crashes_logged() -> Iterator[None]:
    """Log what kopf would reduce to its message."""
    try:
        yield
    except kopf.AdmissionError:
        raise
    except Exception:
        log.exception("a review could not be judged")
        raise


async def _nobody() -> list[str]:
    return []


def _answer(judgement: Judgement, kind: str, body: kopf.Body, warnings: list[str]) -> None:
    warnings.extend(judgement.warnings.values())
    verdict = "denied" if judgement.denials else "warned" if judgement.warnings else "allowed"
    metrics.webhook_reviews.labels(kind, verdict).inc()
    if judgement.denials:
        name = str(NamespacedName.of(body["metadata"]))
        log.info("%s %r is refused: %s", kind, name, ", ".join(judgement.denials))
        raise kopf.AdmissionError(" ".join(judgement.denials.values()), code=422)
