"""A review's lookups, also when the API server answers only some or none of them."""

import asyncio

import pytest

from tests.unit.build import OTHER_PHONE
from tests.unit.fake_api import FakeApi, FakeClient
from wazzup_operator.admission.lookups import Cause, Lookups, deadline
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.observability import metrics
from wazzup_operator.observability.metrics import registry
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelSpec

SHORTER, LONGER = "+551187654321", "+5511987654321"
"""Two spellings of one number in Brazil."""
SPEC = ChannelSpec(phone_number=LONGER)
ACCOUNT = "/apis/wazzup.dev/v1/namespaces/shop/wazzupaccounts/default"


class Server(FakeClient):
    """An API server with a fault per spelling or path: an error, or seconds until it answers."""

    def __init__(self, **faults):
        super().__init__(FakeApi())
        self.faults = faults
        self.in_flight = 0

    def add(self, name, number=LONGER, transport="whatsapp", namespace="shop", **metadata):
        path = f"/apis/wazzup.dev/v1/namespaces/{namespace}/wazzupchannels/{name}"
        spec = {"phoneNumber": number, "transport": transport}
        self.api.put(path, {"metadata": metadata, "spec": spec})

    async def get(self, path, query=None):
        self.in_flight += 1
        try:
            return await super().get(path, query)
        finally:
            self.in_flight -= 1

    async def before(self, verb, path, query):
        target = query["fieldSelector"].partition("=")[2] if query else path
        fault = self.faults.get(target)
        if isinstance(fault, Exception):
            raise fault
        await asyncio.sleep(fault or 0)


async def look_up(server):
    return await Lookups(server).holders(NamespacedName("shop", "new"), SPEC)


async def holders(server):
    """Return the names; every lookup must succeed."""
    found = await look_up(server)
    assert found.failure is None
    return found.names


def failures():
    """Return the counted failures that are not 0, by resource and cause."""
    return {
        (resource, str(cause)): count
        for resource in ("wazzupchannels", "wazzupaccounts")
        for cause in Cause
        if (
            count := registry.get_sample_value(
                "wazzup_webhook_lookup_failures_total", {"resource": resource, "cause": cause}
            )
        )
    }


@pytest.fixture(autouse=True)
def uncounted():
    """Start each test with no failure counted."""
    metrics.webhook_lookup_failures.clear()


async def test_both_spellings_are_looked_up_in_the_namespace():
    server = Server()
    server.add("b", SHORTER)
    server.add("c")
    server.add("a")
    server.add("d", namespace="elsewhere")
    server.add("e", OTHER_PHONE)
    assert await holders(server) == ["a", "b", "c"]


async def test_an_object_deleted_or_with_another_transport_does_not_hold_the_number():
    server = Server()
    server.add("new")
    server.add("gone", deletionTimestamp="2026-01-01T00:00:00Z")
    server.add("old")
    server.add("api", transport="wapi")
    assert await holders(server) == ["old"]


def within(seconds):
    """Let lookups time out after that many seconds, as the server does."""
    deadline.set(asyncio.get_running_loop().time() + seconds)


MISSING = (
    "the webhook may not list wazzupchannels.wazzup.dev in namespace 'shop'; grant its service"
    " account this permission"
)
FAULTS = {
    "forbidden": (Refused(403, "no"), MISSING),
    "refused": (
        Refused(500, "etcd"),
        "the API server refused (500); try again",
    ),
    "timeout": (60.0, "the API server did not answer in time; try again"),
    "unreachable": (ConnectionFailed("the API server is gone"), "server is gone; try again"),
}


@pytest.mark.looptime
@pytest.mark.parametrize(("cause", "fault"), FAULTS.items(), ids=FAULTS)
async def test_a_failed_lookup_of_one_spelling_keeps_the_result_of_the_other(
    cause, fault, looptime, caplog
):
    fault, reason = fault
    server = Server(**{LONGER: fault})
    server.add("old", SHORTER)
    server.add("hidden")
    within(2.0)
    found = await look_up(server)
    assert found.names == ["old"]
    assert found.failure.startswith("Cannot look up the WazzupChannels with this number: ")
    assert found.failure.endswith(f"{reason}.")
    assert server.in_flight == 0
    assert looptime <= 2.0
    assert failures() == {("wazzupchannels", cause): 1}
    (line,) = caplog.messages
    assert line.startswith("Cannot look up the WazzupChannels with this number in namespace 'shop'")
    assert line.endswith(reason)


async def test_a_lookup_of_two_spellings_is_counted_and_logged_once(caplog):
    forbidden = Refused(403, "no")
    assert (await look_up(Server(**{SHORTER: forbidden, LONGER: forbidden}))).names == []
    assert failures() == {("wazzupchannels", "forbidden"): 1}
    assert len(caplog.messages) == 1


@pytest.mark.looptime
async def test_a_failed_lookup_neither_shortens_nor_extends_the_other(looptime):
    server = Server(**{SHORTER: ConnectionFailed("reset"), LONGER: 1.5})
    server.add("late")
    within(2.0)
    assert (await look_up(server)).names == ["late"]
    assert looptime == 1.5
    server.faults[LONGER] = 60.0
    assert (await look_up(server)).names == []
    assert server.in_flight == 0
    assert looptime == 2.0


@pytest.mark.looptime
async def test_a_lookup_is_retried_when_the_api_server_says(looptime):
    """It refuses lists for a moment after the CRDs have changed."""
    busy = Refused(429, "storage is (re)initializing", retry_after=1.0)
    server = Server(**{LONGER: busy, ACCOUNT: busy})
    server.add("old")
    within(2.0)
    asyncio.get_running_loop().call_later(0.5, server.faults.clear)
    found = await look_up(server)
    assert (found.names, found.failure, looptime) == (["old"], None, 1.0)
    server.faults.update({LONGER: busy, ACCOUNT: busy})
    assert (await look_up(server)).failure
    assert await Lookups(server).account_exists(NamespacedName("shop", "default")) is True
    assert looptime == 1.0, "a second wait would not be in time"
    assert failures() == {("wazzupchannels", "refused"): 1, ("wazzupaccounts", "refused"): 1}


@pytest.mark.looptime
async def test_all_lookups_of_a_review_end_at_its_deadline(looptime):
    server = Server(**{SHORTER: 60.0, LONGER: 60.0, ACCOUNT: 60.0})
    within(0.6)
    await asyncio.sleep(0.5)  # reading the review
    assert (await look_up(server)).failure
    assert await Lookups(server).account_exists(NamespacedName("shop", "default")) is True
    assert looptime == 0.6


def test_failures_that_have_not_occurred_are_0():
    Lookups(None)
    (family,) = metrics.webhook_lookup_failures.collect()
    assert len(family.samples) == 8
    assert {sample.value for sample in family.samples} == {0}


@pytest.mark.looptime
async def test_a_cancelled_lookup_leaves_no_request_behind(looptime):
    server = Server(**{SHORTER: 1.0, LONGER: 1.0})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await holders(server)
    assert server.in_flight == 0


async def test_an_account_exists_or_does_not(caplog):
    server = Server()
    server.api.put(ACCOUNT, {})
    assert await Lookups(server).account_exists(NamespacedName("shop", "default")) is True
    assert await Lookups(server).account_exists(NamespacedName("shop", "other")) is False
    assert not caplog.messages


ACCOUNT_FAULTS = {
    "forbidden": Refused(403, "no"),
    "refused": Refused(500, "etcd"),
    "timeout": 60.0,
    "unreachable": ConnectionFailed("reset"),
}


@pytest.mark.looptime
@pytest.mark.parametrize(("cause", "fault"), ACCOUNT_FAULTS.items(), ids=ACCOUNT_FAULTS)
async def test_an_account_that_cannot_be_looked_up_counts_as_existing(
    cause, fault, looptime, caplog
):
    server = Server(**{ACCOUNT: fault})
    within(2.0)
    assert await Lookups(server).account_exists(NamespacedName("shop", "default")) is True
    assert failures() == {("wazzupaccounts", cause): 1}
    (line,) = caplog.messages
    assert line.startswith("Cannot look up WazzupAccount 'shop/default': ")
    assert ("may not get wazzupaccounts.wazzup.dev in namespace 'shop'" in line) == (
        cause == "forbidden"
    )
    assert server.in_flight == 0
    assert looptime <= 2.0
