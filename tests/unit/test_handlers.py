"""The handlers: which reviews come to the rules at all, and what becomes of the judgement."""

import asyncio

import kopf
import pytest

from wazzup_operator.admission.handlers import Handlers


@pytest.fixture(autouse=True)
def no_implicit_event_loop():
    """Before Python 3.14, pytest-asyncio asks for a loop that is then made and never closed."""
    asyncio.set_event_loop(None)


class Evidence:
    """Knows of no account, and of one holder of every number; counts what it is asked."""

    def __init__(self):
        self.asked = 0

    async def holders(self, namespace, name, spec):
        self.asked += 1
        return ["support"]

    async def account_exists(self, namespace, name):
        self.asked += 1
        return False


def channel(**spec):
    return {
        "kind": "WazzupChannel",
        "metadata": {"name": "sales", "namespace": "shop"},
        "spec": {"phoneNumber": "+79865784457", **spec},
    }


def account(interval="10s", **spec):
    return {
        "kind": "WazzupAccount",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"apiKeySecretRef": {"name": "wazzup"}, "pollInterval": interval, **spec},
    }


def being_deleted(body):
    return body | {"metadata": body["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}


async def reviewed(body, old=None):
    """Return the refusal, the number of warnings, and how often others were asked."""
    evidence, warnings, refusal = Evidence(), [], None
    handlers = Handlers(evidence, 30.0)
    handler = handlers.channel if body["kind"] == "WazzupChannel" else handlers.account
    try:
        await handler(body=body, old=old, warnings=warnings, diff=(), operation="any")
    except kopf.AdmissionError as error:
        refusal = error
    return refusal, len(warnings), evidence.asked


async def test_a_new_channel_is_refused_with_its_warnings():
    refusal, warnings, _ = await reviewed(channel())
    assert refusal.code == 422
    assert 'The WazzupChannel "support"' in str(refusal)
    assert warnings == 1


async def test_a_short_interval_is_warned_of():
    assert await reviewed(account()) == (None, 1, 0)
    assert await reviewed(account(), account("60s")) == (None, 1, 0)


NOTHING_TO_SAY = {
    "channel, spec unchanged": (channel(), channel()),
    "channel, a default spelled out": (channel(active=True), channel()),
    "channel, being deleted": (being_deleted(channel(transport="wapi")), channel()),
    "channel, created as it is being deleted": (being_deleted(channel()), None),
    "channel, no number": (channel(phoneNumber=[]), None),
    "account, spec unchanged": (account(), account()),
    "account, being deleted": (being_deleted(account()), account("60s")),
    "account, created as it is being deleted": (being_deleted(account()), None),
    "account, no reference": (account(apiKeySecretRef=[]), None),
}


@pytest.mark.parametrize(("body", "old"), NOTHING_TO_SAY.values(), ids=NOTHING_TO_SAY)
async def test_what_the_handlers_say_nothing_of(body, old):
    assert await reviewed(body, old) == (None, 0, 0)


async def test_an_update_asks_for_no_holders():
    refusal, warnings, asked = await reviewed(channel(active=False), channel())
    assert (refusal, warnings, asked) == (None, 2, 1)
