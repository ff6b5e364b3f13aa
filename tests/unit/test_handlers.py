"""The handlers: which reviews reach the rules, and how the outcome is answered."""

import logging

import kopf
import pytest
from kubernetes.aio.client.configuration import Configuration

from wazzup_operator.admission.handlers import Handlers
from wazzup_operator.admission.lookups import Holders
from wazzup_operator.observability import metrics

HELD = Holders(["support"])
FAILURE = "Cannot look up the WazzupChannels with this number: the API server is gone."


class Lookups:
    """Finds no account, and these holders of every number; counts the lookups."""

    def __init__(self, holders=HELD):
        self.count = 0
        self.found = holders

    async def holders(self, key, spec):
        self.count += 1
        return self.found

    async def account_exists(self, key):
        self.count += 1
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


async def reviewed(body, old=None, holders=HELD):
    """Return the refusal, the number of warnings, and the number of lookups."""
    lookups, warnings, refusal = Lookups(holders), [], None
    handlers = Handlers(None, lookups, 30.0)
    handler = handlers.channel if "phoneNumber" in body["spec"] else handlers.account
    try:
        await handler(body=body, old=old, warnings=warnings, diff=(), operation="any")
    except kopf.AdmissionError as error:
        refusal = error
    return refusal, len(warnings), lookups.count


async def test_a_new_channel_is_refused_with_its_warnings():
    refusal, warnings, _ = await reviewed(channel())
    assert refusal.code == 422
    assert 'WazzupChannel "support"' in str(refusal)
    assert warnings == 1


@pytest.mark.parametrize(
    ("body", "old"),
    [
        (channel(phoneNumber="+99912345678"), None),
        (channel(phoneNumber="+79990001122"), channel()),
        (channel(transport="wapi"), channel()),
        (channel(channelID="b"), channel(channelID="a")),
    ],
)
async def test_what_the_review_alone_shows_is_refused_without_lookups(body, old):
    refusal, warnings, lookups = await reviewed(body, old, Holders([], FAILURE))
    assert (refusal.code, warnings, lookups) == (422, 0, 0)


async def test_a_failed_lookup_leaves_a_new_object_unjudged():
    before = counted()
    refusal, _, _ = await reviewed(channel(), None, Holders([], FAILURE))
    assert (refusal.code, str(refusal)) == (500, FAILURE)
    assert counted() == before


async def test_a_holder_that_was_found_is_enough_to_refuse():
    refusal, _, _ = await reviewed(channel(), None, Holders(["support"], FAILURE))
    assert refusal.code == 422
    assert 'WazzupChannel "support"' in str(refusal)


async def test_a_holder_that_is_replaced_may_not_be_the_only_one():
    body = channel()
    body["metadata"]["annotations"] = {"wazzup.dev/replaces": "support"}
    assert (await reviewed(body, None, Holders(["support"])))[0] is None
    refusal, _, _ = await reviewed(body, None, Holders(["support"], FAILURE))
    assert (refusal.code, str(refusal)) == (500, FAILURE)


def counted():
    """Return the counted reviews by kind and verdict."""
    (family,) = metrics.webhook_reviews.collect()
    return {(each.labels["kind"], each.labels["verdict"]): each.value for each in family.samples}


async def test_a_client_can_forge_neither_a_label_nor_a_log_line(caplog):
    caplog.set_level(logging.INFO)
    body = channel() | {"kind": "Forged"}
    body["metadata"] = {"name": "a\nINFO forged: +1", "namespace": "shop"}
    assert (await reviewed(body))[0].code == 422
    assert [each.getMessage() for each in caplog.records] == [
        r"WazzupChannel 'shop/a\nINFO forged: +1' is refused: number-taken"
    ]
    await reviewed(account() | {"kind": "Forged"})
    assert {kind for kind, _ in counted()} <= {"WazzupChannel", "WazzupAccount"}
    assert ("WazzupChannel", "denied") in counted()
    assert ("WazzupAccount", "warned") in counted()


async def test_an_object_without_a_kind_is_reviewed():
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
async def test_switching_active_warns_unless_the_channel_is_switched_already(status, warned):
    _, warnings, _ = await reviewed(channel(active=False) | {"status": status}, channel())
    assert warnings == 1 + warned  # one for the missing account


async def test_a_crash_is_logged_with_its_traceback_and_judges_nothing(caplog):
    class Broken(Lookups):
        async def account_exists(self, key):
            raise KeyError("odd")

    with pytest.raises(kopf.AdmissionError) as error:
        await Handlers(None, Broken(), 30.0).channel(body=channel(), old=None, warnings=[])
    assert error.value.code == 500
    assert str(error.value) == "A handler crashed; see the webhook's log."
    (record,) = caplog.records
    assert record.getMessage() == "The review of WazzupChannel 'shop/sales' crashed"
    assert record.exc_info[0] is KeyError


async def test_a_refusal_is_not_logged_as_a_crash(caplog):
    assert (await reviewed(channel()))[0]
    assert caplog.records == []


async def test_each_login_of_kopf_takes_the_client_s_current_credentials():
    to = Configuration(host="https://cluster:6443", ssl_ca_cert="ca", cert_file="crt")
    to.key_file, to.proxy = "key", "http://proxy:3128"
    headers = iter(["Bearer first", "Bearer second", None])

    class Kube:
        async def access(self):
            return to, next(headers)

    handlers = Handlers(Kube(), Lookups(), 30.0)
    for token in ("first", "second", None):
        info = await handlers.login(logger=None)
        assert (info.server, info.ca_path, info.insecure) == ("https://cluster:6443", "ca", False)
        assert (info.certificate_path, info.private_key_path) == ("crt", "key")
        assert info.proxy_url == "http://proxy:3128"
        header = {"Authorization": f"Bearer {token}"} if token else {}
        assert info.as_http_headers() == header


async def test_a_short_interval_warns():
    assert await reviewed(account()) == (None, 1, 0)
    assert await reviewed(account(), account("60s")) == (None, 1, 0)


NOT_REVIEWED = {
    "channel, spec unchanged": (channel(), channel()),
    "channel, a default spelled out": (channel(active=True), channel()),
    "channel, being deleted": (being_deleted(channel(transport="wapi")), channel()),
    "channel, created while being deleted": (being_deleted(channel()), None),
    "channel, no number": (channel(phoneNumber=[]), None),
    "account, spec unchanged": (account(), account()),
    "account, being deleted": (being_deleted(account()), account("60s")),
    "account, created while being deleted": (being_deleted(account()), None),
    "account, no reference": (account(apiKeySecretRef=[]), None),
}


@pytest.mark.parametrize(("body", "old"), NOT_REVIEWED.values(), ids=NOT_REVIEWED)
async def test_what_the_handlers_do_not_review(body, old):
    assert await reviewed(body, old) == (None, 0, 0)


async def test_an_update_looks_up_no_holders():
    refusal, warnings, lookups = await reviewed(channel(active=False), channel())
    assert (refusal, warnings, lookups) == (None, 2, 1)
