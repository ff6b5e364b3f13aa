"""The informer in virtual time, against a scripted API server.

Chance always chooses the longest wait, so that times can be told beforehand: the backoff of 0.2 to
10 s is 0.4, 0.8, 1.6, 3.2, 6.4, 10 seconds.
"""

import asyncio
import random
from contextlib import asynccontextmanager
from itertools import accumulate
from types import SimpleNamespace

import pytest

from tests.unit.virtual_time import now, until
from wazzup_operator.kube import client
from wazzup_operator.kube import informer as module
from wazzup_operator.kube.errors import ConnectionFailed, Expired, Refused
from wazzup_operator.kube.informer import PAGE, WATCH_TIMEOUT, Informer
from wazzup_operator.lifecycle import supervise

pytestmark = pytest.mark.looptime

PATH = "/apis/wazzup.dev/v1/wazzupchannels"
WAITS = [0.4, 0.8, 1.6, 3.2, 6.4, 10]
DOUBLING = [0, *accumulate(WAITS)]
"""Tries at 0.2 to 10 s that fail from the beginning on."""


@pytest.fixture(autouse=True)
def chance_and_time(monkeypatch):
    """Let chance always choose the most, and the informer's clock go with the loop's."""
    monkeypatch.setattr(random, "uniform", lambda least, most: max(least, most))
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr(module, "time", clock)


def item(name, version=1, uid="1"):
    metadata = {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata}


def page(*items, version=10, token=None):
    metadata = {"resourceVersion": str(version)} | ({"continue": token} if token else {})
    return {"items": list(items), "metadata": metadata}


def event(kind, name="a", version=11, uid="1"):
    return {"type": kind, "object": item(name, version, uid)}


def bookmark(version):
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}


def error(code):
    return {"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "no"}}


def decode(body):
    metadata = body["metadata"]
    return (
        None if metadata["name"] == "bad" else f"{metadata['name']}@{metadata['resourceVersion']}"
    )


class Server:
    """Answers requests in turn, the last answer for ever. Errors are raised.

    A watch is a list of events, errors and seconds to wait; HELD is one that stays open.
    """

    def __init__(self, lists, watches):
        self.scripts = {"list": list(lists), "watch": list(watches)}
        self.asked = {"list": [], "watch": []}

    def take(self, what, query):
        self.asked[what].append((now(), query))
        assert len(self.asked[what]) < 100, "it asks in a tight loop"
        script = self.scripts[what]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer.with_traceback(None)
        return answer

    def times(self, what):
        return [seconds for seconds, _ in self.asked[what]]

    def versions(self):
        """Return from where on the watches were opened."""
        return [query["resourceVersion"] for _, query in self.asked["watch"]]

    async def get(self, path, query):
        assert path == PATH
        await asyncio.sleep(0)
        return self.take("list", dict(query))

    @asynccontextmanager
    async def watch(self, path, query, silence):
        assert (path, silence) == (PATH, WATCH_TIMEOUT)
        await asyncio.sleep(0)
        yield self.events(self.take("watch", dict(query)))

    async def events(self, script):
        for each in script:
            if isinstance(each, Exception):
                raise each
            if isinstance(each, dict):
                yield each
            else:
                await asyncio.sleep(each)


HELD = [1e6]


class Sink:
    """Takes down what it is told. `present` are (name, uid, version)."""

    def __init__(self):
        self.told = []
        self.present = set()

    def replace(self, objects):
        self.told.append(("replace", objects))

    def has(self, key, uid, version):
        return (key[1], uid, version) in self.present

    def upsert(self, object_):
        self.told.append(("upsert", object_))

    def remove(self, key, uid):
        self.told.append(("remove", key, uid))


class Scene:
    """An informer, running."""

    def __init__(self, *, lists=(), watches=(HELD,)):
        self.server = Server(lists or [page()], watches)
        self.sink = Sink()
        self.decoded = []

        def recorded(body):
            self.decoded.append(body["metadata"]["name"])
            return decode(body)

        self.informer = Informer(self.server, PATH, recorded, self.sink)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.informer.run())
        return self

    async def __aexit__(self, *error):
        assert not self.task.done(), self.task.exception()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class TestList:
    """The first list."""

    async def test_pages_are_replaced_in_one_go(self):
        lists = [page(item("a"), token="t1"), page(item("b"), token="t2"), page(item("c"))]
        async with Scene(lists=lists) as scene:
            await until(1)
            assert scene.sink.told == [("replace", ["a@1", "b@1", "c@1"])]
            limit = {"limit": str(PAGE)}
            assert [query for _, query in scene.server.asked["list"]] == [
                limit,
                limit | {"continue": "t1"},
                limit | {"continue": "t2"},
            ]

    async def test_it_is_synced_after_the_last_page(self):
        lists = [page(item("a"), token="t"), ConnectionFailed("away"), page(item("a")), page()]
        async with Scene(lists=lists) as scene:
            await until(0.2)
            assert not scene.informer.synced.is_set()
            assert scene.sink.told == []
            await until(1)
            assert scene.informer.synced.is_set()
            assert scene.sink.told == [("replace", ["a@1"])]

    async def test_the_watch_begins_where_the_list_ended(self):
        async with Scene(lists=[page(version=42)]) as scene:
            await until(1)
            (_, query), *more = scene.server.asked["watch"]
            assert not more
            assert 300 <= int(query.pop("timeoutSeconds")) <= 600
            assert query == {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": "42"}

    async def test_what_cannot_be_read_is_left_out(self):
        async with Scene(lists=[page(item("a"), item("bad"), item("c"))]) as scene:
            await until(1)
            assert scene.sink.told == [("replace", ["a@1", "c@1"])]


class TestEvents:
    """What a watch tells."""

    async def told(self, *events, present=()):
        scene = Scene(watches=[[*events, *HELD]])
        scene.sink.present = set(present)
        async with scene:
            await until(1)
        return scene.sink.told[1:], scene.decoded

    async def test_what_is_new_or_changed(self):
        told, _ = await self.told(event("ADDED", "a", 11), event("MODIFIED", "a", 12))
        assert told == [("upsert", "a@11"), ("upsert", "a@12")]

    async def test_what_is_deleted_goes_by_its_uid(self):
        told, decoded = await self.told(event("DELETED", "a", 12, uid="7"))
        assert told == [("remove", ("shop", "a"), "7")]
        assert decoded == []

    async def test_a_version_that_is_there_is_not_decoded(self):
        changed = event("MODIFIED", "a", 12, uid="7")
        assert await self.told(changed, present=[("a", "7", "12")]) == ([], [])

    @pytest.mark.parametrize("present", [("a", "7", "11"), ("a", "8", "12"), ("b", "7", "12")])
    async def test_another_version_uid_or_name_is(self, present):
        told, decoded = await self.told(event("MODIFIED", "a", 12, uid="7"), present=[present])
        assert (told, decoded) == ([("upsert", "a@12")], ["a"])

    async def test_a_deletion_of_a_version_that_is_there(self):
        told, _ = await self.told(event("DELETED", "a", 12, uid="7"), present=[("a", "7", "12")])
        assert told == [("remove", ("shop", "a"), "7")]

    async def test_what_can_no_longer_be_read_is_removed(self):
        told, _ = await self.told(event("MODIFIED", "bad", 12, uid="7"))
        assert told == [("remove", ("shop", "bad"), "7")]

    async def test_a_bookmark_tells_nothing(self):
        assert await self.told(bookmark(99)) == ([], [])


class TestWatchAgain:
    """A watch's end."""

    @pytest.mark.parametrize(
        ("last", "version"),
        [(bookmark(99), "99"), (event("ADDED", "a", 11), "11"), (event("DELETED", "a", 12), "12")],
        ids=["bookmark", "change", "deletion"],
    )
    async def test_the_next_begins_where_it_ended(self, last, version):
        async with Scene(watches=[[last, 300], HELD]) as scene:
            await until(301)
            assert scene.server.versions() == ["10", version]
            assert scene.server.times("watch") == [0, 300]
            assert len(scene.server.asked["list"]) == 1

    @pytest.mark.parametrize(
        "ending",
        [[], [error(500)], [error(None)], [ConnectionFailed("broken off")]],
        ids=["end", "ERROR 500", "ERROR without code", "broken off"],
    )
    async def test_watches_that_end_at_once_become_ever_more_seldom(self, ending):
        async with Scene(watches=[ending]) as scene:
            await until(23)
            assert scene.server.times("watch") == pytest.approx(DOUBLING)
            assert len(scene.server.asked["list"]) == 1

    async def test_refused_watches_become_ever_more_seldom(self):
        async with Scene(watches=[Refused(500, "no")]) as scene:
            await until(23)
            assert scene.server.times("watch") == pytest.approx(DOUBLING)

    async def test_what_is_heard_ends_the_backoff(self):
        away = ConnectionFailed("away")
        watches = [away, away, away, [bookmark(11), away], HELD]
        async with Scene(watches=watches) as scene:
            await until(10)
            assert scene.server.times("watch") == pytest.approx([0, 0.4, 1.2, 2.8, 3.2])


EXPIRED = [Expired("too old"), [error(410)]]


class TestExpired:
    """410: the version is too old."""

    @pytest.mark.parametrize("expired", EXPIRED, ids=["HTTP", "ERROR"])
    async def test_it_lists_again_at_once_after_a_watch_that_worked(self, expired):
        lists = [page(item("a")), page(item("b"), version=50)]
        watches = [[bookmark(11), 300], expired, HELD]
        async with Scene(lists=lists, watches=watches) as scene:
            await until(301)
            assert scene.server.times("list") == [0, 300]
            assert scene.sink.told == [("replace", ["a@1"]), ("replace", ["b@1"])]
            assert scene.server.versions() == ["10", "11", "50"]

    async def test_it_lists_again_at_once_when_a_working_watch_expires(self):
        async with Scene(watches=[[bookmark(11), 60, error(410)], HELD]) as scene:
            await until(61)
            assert scene.server.times("list") == [0, 60]

    @pytest.mark.parametrize("expired", EXPIRED, ids=["HTTP", "ERROR"])
    async def test_right_after_each_list_it_becomes_ever_more_seldom(self, expired):
        async with Scene(watches=[expired]) as scene:
            await until(23)
            assert scene.server.times("list") == pytest.approx(DOUBLING)

    async def test_again_right_after_the_list_for_a_watch_that_worked(self):
        async with Scene(watches=[[bookmark(11), 60, error(410)], Expired("too old")]) as scene:
            await until(62)
            assert scene.server.times("list") == pytest.approx([0, 60, 60.4, 61.2])

    async def test_in_a_list_it_begins_anew(self):
        first, rest = page(item("a"), token="t"), page(item("b"))
        async with Scene(lists=[first, Expired("too old"), first, rest]) as scene:
            await until(1)
            assert scene.server.times("list") == [0, 0, 0.4, 0.4]
            assert "continue" not in scene.server.asked["list"][2][1]
            assert scene.sink.told == [("replace", ["a@1", "b@1"])]

    async def test_in_each_list_it_becomes_ever_more_seldom(self):
        async with Scene(lists=[Expired("too old")]) as scene:
            await until(23)
            assert scene.server.times("list") == pytest.approx(DOUBLING)
            assert not scene.informer.synced.is_set()


class TestTrouble:
    """What keeps it from following."""

    @pytest.mark.parametrize(
        ("failure", "sentence"),
        [
            (
                Refused(404, "no"),
                "The API server does not serve wazzupchannels of this version; apply the CRDs"
                " (crds/)",
            ),
            (
                Refused(403, "no"),
                "The operator may not list and watch wazzupchannels; grant it permission (no)",
            ),
            (
                Refused(401, "no"),
                "The API server rejects the operator's credentials (no)",
            ),
            (Refused(500, "no"), "Cannot list or watch wazzupchannels: no"),
            (ConnectionFailed("away"), "Cannot list or watch wazzupchannels: away"),
        ],
        ids=["404", "403", "401", "500", "away"],
    )
    async def test_it_is_told_once_until_it_ends(self, failure, sentence, caplog):
        caplog.set_level("INFO")
        async with Scene(lists=[failure] * 3 + [page()]) as scene:
            await until(2)
            assert scene.informer.problem == sentence
            assert not scene.informer.synced.is_set()
            assert caplog.messages == [f"{sentence}; retrying"]
            await until(3)
            assert scene.informer.problem is None
            assert scene.informer.synced.is_set()
            assert caplog.messages[1:] == [f"{PATH}: listing and watching again"]

    async def test_trouble_with_a_watch_ends_with_what_is_heard(self):
        refused = Refused(403, "no")
        async with Scene(watches=[refused, refused, [5, bookmark(11), *HELD]]) as scene:
            await until(6)
            assert "may not list and watch" in scene.informer.problem
            assert scene.informer.synced.is_set()
            await until(7)
            assert scene.informer.problem is None

    async def test_an_error_event_is_trouble(self):
        async with Scene(watches=[[error(500)], HELD]) as scene:
            await until(1)
            assert scene.informer.problem == (
                "Cannot list or watch wazzupchannels: the watch failed: no"
            )

    async def test_there_is_none_at_first(self):
        async with Scene() as scene:
            assert scene.informer.problem is None
            await until(1)
            assert scene.informer.problem is None


class TestTurns:
    """When it was last seen to work, for the liveness probe."""

    async def test_each_event_and_each_try_is_a_turn(self):
        watches = [[100, bookmark(11), 100, Refused(500, "no")], HELD]
        async with Scene(watches=watches) as scene:
            for seconds, turned in ((99, 0), (101, 100), (199, 100), (201, 200)):
                await until(seconds)
                assert scene.informer.last_progress == pytest.approx(turned)

    async def test_a_list_is_a_turn_when_it_is_whole(self):
        lists = [page(item("a"), token="t"), page(item("b"))]
        async with Scene(lists=lists) as scene:
            get, asked = scene.server.get, []

            async def slowly(path, query):
                asked.append(now())
                await asyncio.sleep(20)
                return await get(path, query)

            scene.server.get = slowly
            await until(39)
            assert asked == [0, 20]
            assert scene.informer.silence == 39
            await until(41)
            assert scene.informer.silence == 1

    async def test_the_longest_wait_and_a_slow_list_are_no_hang(self):
        refused = Refused(429, "too many", retry_after=client._LONGEST_WAIT)
        async with Scene(lists=[refused, page()]) as scene:
            for _ in range(int(client._LONGEST_WAIT + 5 * client._TIMEOUT)):
                await asyncio.sleep(1)
                assert scene.informer.stuck() is None

    @pytest.mark.parametrize("where", ["list", "event"])
    async def test_what_ends_by_surprise_again_and_again_is_told(self, where, caplog):
        lists = [page(item("odd"))] if where == "list" else [page()]
        scene = Scene(lists=lists, watches=[[5, event("ADDED", "odd", 11)]])
        decode = scene.informer._decode

        def surprised(body):
            if body["metadata"]["name"] == "odd":
                raise ZeroDivisionError
            return decode(body)

        scene.informer._decode = surprised
        running = asyncio.create_task(supervise("the informer", scene.informer.run))
        await until(6)
        assert scene.informer.problem == "Cannot list or watch wazzupchannels: ZeroDivisionError"
        await until(2 * WATCH_TIMEOUT + 1)
        # A new process would not even know what is known here; metrics tell of the silence.
        assert scene.informer.stuck() is None
        if where == "list":
            assert scene.informer.silence > 2 * WATCH_TIMEOUT
            assert not scene.informer.synced.is_set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        caplog.clear()
