"""What a review learns of other objects, also when the API server answers in part or not at all."""

import asyncio

import pytest

from tests.unit.build import OTHER_PHONE
from tests.unit.fake_api import FakeApi, FakeClient
from wazzup_operator.admission.evidence import LOOKUP_TIMEOUT, Evidence, lookup_timeout
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelSpec

SHORTER, LONGER = "+551187654321", "+5511987654321"
"""Two spellings of one number in Brazil."""
SPEC = ChannelSpec(phone_number=LONGER)
ACCOUNT = "/apis/wazzup.dev/v1/namespaces/shop/wazzupaccounts/default"


class Server(FakeClient):
    """An API server that fails for a spelling or a path with an error, or takes so many seconds."""

    def __init__(self, **faults):
        super().__init__(FakeApi())
        self.faults = faults
        self.underway = 0

    def holds(self, name, number=LONGER, transport="whatsapp", namespace="shop", **metadata):
        path = f"/apis/wazzup.dev/v1/namespaces/{namespace}/wazzupchannels/{name}"
        spec = {"phoneNumber": number, "transport": transport}
        self.api.put(path, {"metadata": metadata, "spec": spec})

    async def get(self, path, query=None):
        self.underway += 1
        try:
            return await super().get(path, query)
        finally:
            self.underway -= 1

    async def before(self, verb, path, query):
        what = query["fieldSelector"].partition("=")[2] if query else path
        fault = self.faults.get(what)
        if isinstance(fault, Exception):
            raise fault
        await asyncio.sleep(fault or 0)


async def holders(server):
    return await Evidence(server).holders(NamespacedName("shop", "new"), SPEC)


async def test_both_spellings_are_looked_up_in_the_namespace():
    server = Server()
    server.holds("b", SHORTER)
    server.holds("c")
    server.holds("a")
    server.holds("d", namespace="elsewhere")
    server.holds("e", OTHER_PHONE)
    assert await holders(server) == ["a", "b", "c"]


async def test_who_is_no_holder():
    server = Server()
    server.holds("new")
    server.holds("gone", deletionTimestamp="2026-01-01T00:00:00Z")
    server.holds("old")
    server.holds("api", transport="wapi")
    assert await holders(server) == ["old"]


@pytest.mark.looptime
@pytest.mark.parametrize("error", [ConnectionFailed("reset"), Refused(500, "etcd"), 60.0])
async def test_a_spelling_that_cannot_be_looked_up_leaves_what_the_other_found(
    error, looptime, caplog
):
    server = Server(**{LONGER: error})
    server.holds("old", SHORTER)
    server.holds("hidden")
    assert await holders(server) == ["old"]
    assert server.underway == 0
    assert looptime <= LOOKUP_TIMEOUT
    assert caplog.text.count("could not be looked up") == 1


@pytest.mark.looptime
async def test_a_failure_leaves_the_other_spelling_its_time_and_no_more(looptime):
    server = Server(**{SHORTER: ConnectionFailed("reset"), LONGER: 1.5})
    server.holds("late")
    assert await holders(server) == ["late"]
    assert looptime == 1.5
    server.faults[LONGER] = 60.0
    assert await holders(server) == []
    assert server.underway == 0
    assert looptime == 1.5 + LOOKUP_TIMEOUT


@pytest.mark.looptime
async def test_a_review_that_has_less_time_leaves_its_look_ups_less(looptime):
    lookup_timeout.set(0.6)
    server = Server(**{SHORTER: 60.0, LONGER: 60.0, ACCOUNT: 60.0})
    assert await holders(server) == []
    assert looptime == 0.6
    assert await Evidence(server).account_exists(NamespacedName("shop", "default")) is True
    assert looptime == 1.2


@pytest.mark.looptime
async def test_who_gives_up_leaves_no_request_behind(looptime):
    server = Server(**{SHORTER: 1.0, LONGER: 1.0})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await holders(server)
    assert server.underway == 0


async def test_an_account_that_is_there_and_one_that_is_not(caplog):
    server = Server()
    server.api.put(ACCOUNT, {})
    assert await Evidence(server).account_exists(NamespacedName("shop", "default")) is True
    assert await Evidence(server).account_exists(NamespacedName("shop", "other")) is False
    assert not caplog.messages


@pytest.mark.looptime
@pytest.mark.parametrize(
    "fault", [Refused(403, "forbidden"), ConnectionFailed("reset"), 60.0], ids=str
)
async def test_an_account_is_missing_only_if_that_is_sure(fault, looptime, caplog):
    server = Server(**{ACCOUNT: fault})
    assert await Evidence(server).account_exists(NamespacedName("shop", "default")) is True
    assert caplog.text.count("an account could not be looked up") == 1
    assert server.underway == 0
    assert looptime <= LOOKUP_TIMEOUT
