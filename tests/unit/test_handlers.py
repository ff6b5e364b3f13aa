"""The handlers: which reviews come to the rules at all, and what becomes of the judgement."""

import logging

import kopf
import pytest
from kubernetes.aio.client.configuration import Configuration

from wazzup_operator.admission.handlers import Handlers
from wazzup_operator.observability import metrics


class Evidence:
    """Knows of no account, and of one holder of every number; counts what it is asked."""

    def __init__(self):
        self.asked = 0

    async def holders(self, asking, spec):
        self.asked += 1
        return ["support"]

    async def account_exists(self, key):
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
    handlers = Handlers(None, evidence, 30.0)
    handler = handlers.channel if "phoneNumber" in body["spec"] else handlers.account
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


def reviews():
    """Return the labels of all counted reviews."""
    (family,) = metrics.webhook_reviews.collect()
    return {(each.labels["kind"], each.labels["verdict"]) for each in family.samples}


async def test_what_a_client_writes_becomes_no_label_and_no_line_of_the_log(caplog):
    caplog.set_level(logging.INFO)
    body = channel() | {"kind": "Forged"}
    body["metadata"] = {"name": "a\nINFO forged: +1", "namespace": "shop"}
    assert (await reviewed(body))[0].code == 422
    assert [each.getMessage() for each in caplog.records] == [
        r"WazzupChannel 'shop/a\nINFO forged: +1' is refused: number-taken"
    ]
    await reviewed(account() | {"kind": "Forged"})
    assert {kind for kind, _ in reviews()} <= {"WazzupChannel", "WazzupAccount"}
    assert ("WazzupChannel", "denied") in reviews()
    assert ("WazzupAccount", "warned") in reviews()


async def test_an_object_without_a_kind_is_reviewed_all_the_same():
    body = channel()
    del body["kind"]
    assert (await reviewed(body))[0].code == 422


@pytest.mark.parametrize(
    ("status", "warned"),
    [
        ({"state": "Active"}, True),
        ({"state": "Off"}, False),
        ({"state": "Off", "account": "default"}, False),
        ({"state": "Off", "account": "former"}, True),
        ({"state": "Off", "account": ["default"]}, True),
        ({"state": "NoSuchState"}, True),
        ({"state": ["Off"]}, True),
        ({}, True),
        ("Off", True),
        (None, True),
    ],
)
async def test_a_switch_that_finds_the_channel_switched_is_not_warned_of(status, warned):
    _, warnings, _ = await reviewed(channel(active=False) | {"status": status}, channel())
    assert warnings == 1 + warned  # the account is missing


async def test_a_surprise_is_logged_with_its_trace_and_goes_on(caplog):
    class Broken(Evidence):
        async def account_exists(self, key):
            raise KeyError("odd")

    with pytest.raises(KeyError, match="odd"):
        await Handlers(None, Broken(), 30.0).channel(body=channel(), old=None, warnings=[])
    (record,) = caplog.records
    assert record.getMessage() == "a review could not be judged"
    assert record.exc_info[0] is KeyError


async def test_a_refusal_is_no_surprise(caplog):
    assert (await reviewed(channel()))[0]
    assert caplog.records == []


async def test_kopf_logs_in_as_the_client_does_each_time_anew():
    to = Configuration(host="https://cluster:6443", ssl_ca_cert="ca", cert_file="crt")
    to.key_file, to.proxy = "key", "http://proxy:3128"
    headers = iter(["Bearer first", "Bearer second", None])

    class Kube:
        async def access(self):
            return to, next(headers)

    handlers = Handlers(Kube(), Evidence(), 30.0)
    for token in ("first", "second", None):
        info = await handlers.login(logger=None)
        assert (info.server, info.ca_path, info.insecure) == ("https://cluster:6443", "ca", False)
        assert (info.certificate_path, info.private_key_path) == ("crt", "key")
        assert info.proxy_url == "http://proxy:3128"
        header = {"Authorization": f"Bearer {token}"} if token else {}
        assert info.as_http_headers() == header


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
