"""What a review learns of other objects, also when the API server answers in part or not at all."""

import asyncio

import pytest

from wazzup_operator.admission.evidence import LOOKUP_TIMEOUT, Evidence, lookup_timeout
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelSpec

SHORTER, LONGER = "+551187654321", "+5511987654321"
"""Two spellings of one number in Brazil."""
SPEC = ChannelSpec(phone_number=LONGER)


@pytest.fixture(autouse=True)
def no_implicit_event_loop():
    """Before Python 3.14, pytest-asyncio asks for a loop that is then made and never closed."""
    asyncio.set_event_loop(None)


def item(name, number=LONGER, transport="whatsapp", **metadata):
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"phoneNumber": number, "transport": transport},
    }


class Server:
    """Answers each spelling with its items, an error, or after so many seconds."""

    def __init__(self, **answers):
        self.answers = {SHORTER: [], LONGER: [], **answers}
        self.underway = 0
        self.asked = []

    async def get(self, path, query=None):
        self.underway += 1
        try:
            number = (query or {}).get("fieldSelector", "").removeprefix("spec.phoneNumber=")
            self.asked.append((path, number))
            answer = self.answers[number]
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, float):
                await asyncio.sleep(answer)
                return {"items": [item("late")]}
            return {"items": answer}
        finally:
            self.underway -= 1


async def holders(server):
    return await Evidence(server).holders(NamespacedName("shop", "new"), SPEC)


async def test_both_spellings_are_looked_up_in_the_namespace():
    server = Server(**{SHORTER: [item("b", SHORTER)], LONGER: [item("c"), item("a")]})
    assert await holders(server) == ["a", "b", "c"]
    where = "/apis/wazzup.dev/v1/namespaces/shop/wazzupchannels"
    assert server.asked == [(where, SHORTER), (where, LONGER)]


async def test_who_is_no_holder():
    others = [item("new"), item("gone", deletionTimestamp="2026-01-01T00:00:00Z"), item("old")]
    server = Server(**{LONGER: [*others, item("api", transport="wapi")]})
    assert await holders(server) == ["old"]


@pytest.mark.looptime
@pytest.mark.parametrize("error", [ConnectionFailed("reset"), Refused(500, "etcd"), 60.0])
async def test_a_spelling_that_cannot_be_looked_up_leaves_what_the_other_found(
    error, looptime, caplog
):
    server = Server(**{SHORTER: [item("old", SHORTER)], LONGER: error})
    assert await holders(server) == ["old"]
    assert server.underway == 0
    assert looptime <= LOOKUP_TIMEOUT
    assert caplog.text.count("could not be looked up") == 1


@pytest.mark.looptime
async def test_a_failure_leaves_the_other_spelling_its_time_and_no_more(looptime):
    server = Server(**{SHORTER: ConnectionFailed("reset"), LONGER: 1.5})
    assert await holders(server) == ["late"]
    assert looptime == 1.5
    server.answers[LONGER] = 60.0
    assert await holders(server) == []
    assert server.underway == 0
    assert looptime == 1.5 + LOOKUP_TIMEOUT


@pytest.mark.looptime
async def test_a_review_that_has_less_time_leaves_its_look_ups_less(looptime):
    lookup_timeout.set(0.6)
    server = Server(**{SHORTER: 60.0, LONGER: 60.0, "": 60.0})
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


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("answer", "exists"),
    [
        ([], True),
        (Refused(404, "not found"), False),
        (Refused(403, "forbidden"), True),
        (ConnectionFailed("reset"), True),
        (60.0, True),
    ],
)
async def test_an_account_is_missing_only_if_that_is_sure(answer, exists, looptime, caplog):
    server = Server(**{"": answer})
    assert await Evidence(server).account_exists(NamespacedName("shop", "default")) is exists
    sure = answer == [] or not exists
    assert caplog.text.count("an account could not be looked up") == (0 if sure else 1)
    assert server.asked[0][0] == "/apis/wazzup.dev/v1/namespaces/shop/wazzupaccounts/default"
    assert server.underway == 0
    assert looptime <= LOOKUP_TIMEOUT
