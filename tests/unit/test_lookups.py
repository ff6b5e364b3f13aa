"""A review's lookups, also when the API server answers only some or none of them."""

import asyncio

import pytest

from tests.unit.build import OTHER_PHONE
from tests.unit.fake_api import FakeApi, FakeClient
from wazzup_operator.admission.lookups import LOOKUP_TIMEOUT, Lookups, lookup_timeout
from wazzup_operator.kube.errors import ConnectionFailed, Refused
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


async def holders(server):
    return await Lookups(server).holders(NamespacedName("shop", "new"), SPEC)


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


@pytest.mark.looptime
@pytest.mark.parametrize("error", [ConnectionFailed("reset"), Refused(500, "etcd"), 60.0])
async def test_a_failed_lookup_of_one_spelling_keeps_the_result_of_the_other(
    error, looptime, caplog
):
    server = Server(**{LONGER: error})
    server.add("old", SHORTER)
    server.add("hidden")
    assert await holders(server) == ["old"]
    assert server.in_flight == 0
    assert looptime <= LOOKUP_TIMEOUT
    assert caplog.text.count("Cannot look up the WazzupChannels with this number") == 1


@pytest.mark.looptime
async def test_a_failed_lookup_neither_shortens_nor_extends_the_other(looptime):
    server = Server(**{SHORTER: ConnectionFailed("reset"), LONGER: 1.5})
    server.add("late")
    assert await holders(server) == ["late"]
    assert looptime == 1.5
    server.faults[LONGER] = 60.0
    assert await holders(server) == []
    assert server.in_flight == 0
    assert looptime == 1.5 + LOOKUP_TIMEOUT


@pytest.mark.looptime
async def test_lookups_take_no_longer_than_the_review_allows(looptime):
    lookup_timeout.set(0.6)
    server = Server(**{SHORTER: 60.0, LONGER: 60.0, ACCOUNT: 60.0})
    assert await holders(server) == []
    assert looptime == 0.6
    assert await Lookups(server).account_exists(NamespacedName("shop", "default")) is True
    assert looptime == 1.2


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


@pytest.mark.looptime
@pytest.mark.parametrize(
    "fault", [Refused(403, "forbidden"), ConnectionFailed("reset"), 60.0], ids=str
)
async def test_an_account_that_cannot_be_looked_up_counts_as_existing(fault, looptime, caplog):
    server = Server(**{ACCOUNT: fault})
    assert await Lookups(server).account_exists(NamespacedName("shop", "default")) is True
    assert caplog.text.count("Cannot look up WazzupAccount 'shop/default'") == 1
    assert server.in_flight == 0
    assert looptime <= LOOKUP_TIMEOUT
