"""The informer in virtual time, against a scripted API server.

Random waits are as long as possible: the backoff of 0.2 to 10 s is 0.4, 0.8, 1.6, 3.2, 6.4, 10
seconds.
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
from wazzup_operator.kube.errors import ConnectionFailed, Refused, TooLarge
from wazzup_operator.kube.informer import PAGE, WATCH_TIMEOUT, Informer
from wazzup_operator.lifecycle import supervise

pytestmark = pytest.mark.looptime

PATH = "/apis/wazzup.dev/v1/wazzupchannels"
WAITS = [0.4, 0.8, 1.6, 3.2, 6.4, 10]
DOUBLING = [0, *accumulate(WAITS)]
"""When attempts with this backoff start, if all fail."""


@pytest.fixture(autouse=True)
def longest_waits_and_loop_time(monkeypatch):
    """Make random waits as long as possible; use the event loop's clock."""
    monkeypatch.setattr(random, "uniform", lambda low, high: max(low, high))
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
    """Answers requests in turn, then repeats the last answer. Errors are raised.

    A watch is a list of events, errors and seconds to wait; HELD is one that stays open.
    """

    def __init__(self, lists, watches):
        self.scripts = {"list": list(lists), "watch": list(watches)}
        self.requests = {"list": [], "watch": []}

    def take(self, what, query):
        self.requests[what].append((now(), query))
        assert len(self.requests[what]) < 100, "requests in a tight loop"
        script = self.scripts[what]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer.with_traceback(None)
        return answer

    def times(self, what):
        return [seconds for seconds, _ in self.requests[what]]

    def versions(self):
        """Return the resourceVersions that watches started from."""
        return [query["resourceVersion"] for _, query in self.requests["watch"]]

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
    """Records its calls. `present` are (name, uid, version)."""

    def __init__(self):
        self.calls = []
        self.present = set()

    async def replace(self, objects):
        self.calls.append(("replace", objects))

    def has(self, key, uid, version):
        return (key[1], uid, version) in self.present

    def upsert(self, object_):
        self.calls.append(("upsert", object_))

    def remove(self, key, uid):
        self.calls.append(("remove", key, uid))


class Scene:
    """A running informer."""

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
            assert scene.sink.calls == [("replace", ["a@1", "b@1", "c@1"])]
            limit = {"limit": str(PAGE)}
            assert [query for _, query in scene.server.requests["list"]] == [
                limit,
                limit | {"continue": "t1"},
                limit | {"continue": "t2"},
            ]

    async def test_pages_of_large_objects_are_smaller(self):
        """The next ones grow again: a few large objects must not slow down the whole list."""
        too_large = TooLarge("too large")
        lists = [
            too_large,
            too_large,
            page(item("a"), token="t"),
            page(item("b"), token="u"),
            page(),
        ]
        async with Scene(lists=lists) as scene:
            await until(1)
            assert scene.sink.calls == [("replace", ["a@1", "b@1"])]
            assert [query for _, query in scene.server.requests["list"]] == [
                {"limit": "500"},
                {"limit": "125"},
                {"limit": "31"},
                {"limit": "62", "continue": "t"},
                {"limit": "124", "continue": "u"},
            ]

    async def test_a_page_of_one_object_that_is_too_large_is_retried_with_backoff(self):
        async with Scene(lists=[TooLarge("too large")]) as scene:
            await until(1)
            limits = [int(query["limit"]) for _, query in scene.server.requests["list"]]
            assert limits == [500, 125, 31, 7, 1] * 2
            assert not scene.informer.synced.is_set()

    async def test_it_is_synced_after_the_last_page(self):
        lists = [
            page(item("a"), token="t"),
            ConnectionFailed("unreachable"),
            page(item("a")),
            page(),
        ]
        async with Scene(lists=lists) as scene:
            await until(0.2)
            assert not scene.informer.synced.is_set()
            assert scene.sink.calls == []
            await until(1)
            assert scene.informer.synced.is_set()
            assert scene.sink.calls == [("replace", ["a@1"])]

    async def test_the_watch_starts_from_the_list_s_version(self):
        async with Scene(lists=[page(version=42)]) as scene:
            await until(1)
            (_, query), *more = scene.server.requests["watch"]
            assert not more
            assert 300 <= int(query.pop("timeoutSeconds")) <= 600
            assert query == {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": "42"}

    async def test_an_unreadable_object_is_skipped(self):
        async with Scene(lists=[page(item("a"), item("bad"), item("c"))]) as scene:
            await until(1)
            assert scene.sink.calls == [("replace", ["a@1", "c@1"])]


class TestEvents:
    """Events of a watch."""

    async def recorded(self, *events, present=()):
        scene = Scene(watches=[[*events, *HELD]])
        scene.sink.present = set(present)
        async with scene:
            await until(1)
        return scene.sink.calls[1:], scene.decoded

    async def test_added_and_modified(self):
        calls, _ = await self.recorded(event("ADDED", "a", 11), event("MODIFIED", "a", 12))
        assert calls == [("upsert", "a@11"), ("upsert", "a@12")]

    async def test_deleted(self):
        calls, decoded = await self.recorded(event("DELETED", "a", 12, uid="7"))
        assert calls == [("remove", ("shop", "a"), "7")]
        assert decoded == []

    async def test_a_stored_version_is_not_decoded(self):
        changed = event("MODIFIED", "a", 12, uid="7")
        assert await self.recorded(changed, present=[("a", "7", "12")]) == ([], [])

    @pytest.mark.parametrize("present", [("a", "7", "11"), ("a", "8", "12"), ("b", "7", "12")])
    async def test_another_version_uid_or_name_is_decoded(self, present):
        calls, decoded = await self.recorded(event("MODIFIED", "a", 12, uid="7"), present=[present])
        assert (calls, decoded) == ([("upsert", "a@12")], ["a"])

    async def test_a_deleted_event_of_a_stored_version(self):
        calls, _ = await self.recorded(
            event("DELETED", "a", 12, uid="7"), present=[("a", "7", "12")]
        )
        assert calls == [("remove", ("shop", "a"), "7")]

    async def test_an_object_that_became_unreadable_is_removed(self):
        calls, _ = await self.recorded(event("MODIFIED", "bad", 12, uid="7"))
        assert calls == [("remove", ("shop", "bad"), "7")]

    async def test_an_unknown_type_is_skipped_with_a_warning(self, caplog):
        assert await self.recorded(event("RENAMED")) == ([], [])
        (warning,) = caplog.messages
        assert "RENAMED" in warning

    async def test_a_bookmark_changes_nothing(self):
        assert await self.recorded(bookmark(99)) == ([], [])


class TestOrderlyEnd:
    """The API server ends a watch when its time is up."""

    @pytest.mark.parametrize(
        ("last", "version"),
        [(bookmark(99), "99"), (event("ADDED", "a", 11), "11"), (event("DELETED", "a", 12), "12")],
        ids=["bookmark", "change", "deletion"],
    )
    async def test_the_next_watch_starts_from_the_last_version(self, last, version):
        async with Scene(watches=[[last, 300], HELD]) as scene:
            await until(301)
            assert scene.server.versions() == ["10", version]
            assert scene.server.times("watch") == [0, 300.4]
            assert scene.server.times("list") == [0]

    async def test_watches_that_end_at_once_back_off(self):
        async with Scene(watches=[[bookmark(11)]]) as scene:
            await until(23)
            assert scene.server.times("watch") == pytest.approx(DOUBLING)
            assert scene.server.times("list") == [0]

    async def test_a_watch_that_delivered_nothing_is_not_resumed(self):
        """Its version may be one that the API server has not reached yet."""
        async with Scene(watches=[[300], HELD]) as scene:
            await until(301)
            assert scene.server.times("list") == [0, 300.4]


LOST = ConnectionFailed("the connection was lost")


class TestOtherEnds:
    """The versions may have gone back meanwhile, so it lists again."""

    @pytest.mark.parametrize(
        "ending",
        [
            Refused(500, "no"),
            Refused(410, "too old"),
            LOST,
            [],
            [error(500)],
            [error(410)],
            [error(None)],
            [LOST],
            [bookmark(11), error(500)],
            [bookmark(11), error(410)],
            [event("ADDED"), LOST],
        ],
        ids=lambda ending: repr(ending)[:60],
    )
    async def test_lists_back_off_while_watches_end(self, ending):
        async with Scene(watches=[ending]) as scene:
            await until(23)
            assert scene.server.times("list") == pytest.approx(DOUBLING)
            assert scene.server.times("watch") == pytest.approx(DOUBLING)
            assert set(scene.server.versions()) == {"10"}

    @pytest.mark.parametrize("ending", [LOST, error(500), error(410)], ids=["lost", "500", "410"])
    async def test_a_working_watch_ends_the_backoff(self, ending):
        watches = [LOST, LOST, LOST, [11, bookmark(11), ending], HELD]
        async with Scene(watches=watches) as scene:
            await until(20)
            assert scene.server.times("list") == pytest.approx([0, 0.4, 1.2, 2.8, 14.2])

    async def test_what_is_listed_counts_even_if_it_is_older(self):
        """As after etcd was restored."""
        lists = [page(item("a", 9), version=10), page(item("b", 3), version=5)]
        async with Scene(lists=lists, watches=[[bookmark(11), LOST], HELD]) as scene:
            await until(1)
            assert scene.sink.calls == [("replace", ["a@9"]), ("replace", ["b@3"])]
            assert scene.server.versions() == ["10", "5"]

    async def test_a_list_that_expires_restarts_at_the_first_page(self):
        first, rest = page(item("a"), token="t"), page(item("b"))
        async with Scene(lists=[first, Refused(410, "too old"), first, rest]) as scene:
            await until(1)
            assert scene.server.times("list") == [0, 0, 0.4, 0.4]
            assert "continue" not in scene.server.requests["list"][2][1]
            assert scene.sink.calls == [("replace", ["a@1", "b@1"])]

    async def test_lists_that_fail_back_off(self):
        async with Scene(lists=[Refused(410, "too old")]) as scene:
            await until(23)
            assert scene.server.times("list") == pytest.approx(DOUBLING)
            assert not scene.informer.synced.is_set()


class TestProblem:
    """Why listing or watching fails."""

    @pytest.mark.parametrize(
        ("failure", "sentence"),
        [
            (
                Refused(404, "no"),
                "The API server does not serve wazzupchannels in all namespaces; apply the CRDs of"
                ' this version (chart value crds.enabled, or the output of "wazzup-operator crds")',
            ),
            (
                Refused(403, "no"),
                "The operator may not list and watch wazzupchannels in all namespaces; grant it"
                " permission (the API server refused (403))",
            ),
            (
                Refused(401, "no"),
                "The API server rejects the operator's credentials (the API server refused (401))",
            ),
            (
                Refused(500, "no"),
                "Cannot list or watch wazzupchannels in all namespaces: the API server refused"
                " (500)",
            ),
            (
                ConnectionFailed("unreachable"),
                "Cannot list or watch wazzupchannels in all namespaces: unreachable",
            ),
        ],
        ids=["404", "403", "401", "500", "unreachable"],
    )
    async def test_it_is_logged_once_until_it_ends(self, failure, sentence, caplog):
        caplog.set_level("INFO")
        watches = [[11, bookmark(11), *HELD]]
        async with Scene(lists=[failure] * 3 + [page()], watches=watches) as scene:
            await until(2)
            assert scene.informer.problem == sentence
            assert not scene.informer.synced.is_set()
            await until(13)
            assert scene.informer.synced.is_set()
            assert caplog.messages == [f"{sentence}; retrying"]
            await until(14)
            assert scene.informer.problem is None
            assert caplog.messages[1:] == [f"{PATH}: listing and watching again"]

    @pytest.mark.parametrize(
        "ending",
        [Refused(500, "no"), [error(500)], [bookmark(11), error(500)]],
        ids=["refused", "ERROR", "ERROR after a bookmark"],
    )
    async def test_it_is_logged_once_while_watches_end(self, ending, caplog):
        """Each list works meanwhile."""
        caplog.set_level("INFO")
        async with Scene(watches=[ending]) as scene:
            await until(60)
            assert scene.informer.problem is not None
            assert caplog.messages == [f"{scene.informer.problem}; retrying"]

    async def test_an_error_event_is_a_problem(self):
        async with Scene(watches=[[error(500)], HELD]) as scene:
            await until(1)
            assert scene.informer.problem == (
                "Cannot list or watch wazzupchannels in all namespaces:"
                " the API server refused (500)"
            )

    async def test_there_is_none_without_an_error(self):
        async with Scene() as scene:
            assert scene.informer.problem is None
            await until(1)
            assert scene.informer.problem is None


class TestProgress:
    """When it last made progress, for the liveness probe."""

    async def test_each_event_and_each_error_is_progress(self):
        watches = [[100, bookmark(11), 100, LOST], [100, bookmark(11), *HELD]]
        async with Scene(watches=watches) as scene:
            for seconds, at in ((99, 0), (101, 100), (199, 100), (200.3, 200), (300, 200.4)):
                await until(seconds)
                assert scene.informer.last_progress == pytest.approx(at)

    async def test_silence_ends_with_a_complete_list(self):
        lists = [page(item("a"), token="t"), page(item("b"))]
        async with Scene(lists=lists) as scene:
            get, requests = scene.server.get, []

            async def slowly(path, query):
                requests.append(now())
                await asyncio.sleep(20)
                return await get(path, query)

            scene.server.get = slowly
            await until(39)
            assert requests == [0, 20]
            assert scene.informer.silence == 39
            await until(41)
            assert scene.informer.silence == 1

    async def test_the_longest_wait_and_a_slow_list_are_not_stuck(self):
        refused = Refused(429, "too many", retry_after=client._LONGEST_WAIT)
        async with Scene(lists=[refused, page()]) as scene:
            for _ in range(int(client._LONGEST_WAIT + 5 * client._TIMEOUT)):
                await asyncio.sleep(1)
                assert scene.informer.stuck() is None

    @pytest.mark.parametrize("where", ["list", "event"])
    async def test_repeated_crashes_are_a_problem_but_not_stuck(self, where, caplog):
        lists = [page(item("odd"))] if where == "list" else [page()]
        scene = Scene(lists=lists, watches=[[5, event("ADDED", "odd", 11)]])
        decode = scene.informer._decode

        def crash(body):
            if body["metadata"]["name"] == "odd":
                raise ZeroDivisionError
            return decode(body)

        scene.informer._decode = crash
        running = asyncio.create_task(supervise("the informer", scene.informer.run))
        await until(6)
        problem = "Cannot list or watch wazzupchannels in all namespaces: ZeroDivisionError"
        assert scene.informer.problem == problem
        await until(2 * WATCH_TIMEOUT + 1)
        # A restart would not help and would empty the Store; metrics show the silence.
        assert scene.informer.stuck() is None
        if where == "list":
            assert scene.informer.silence > 2 * WATCH_TIMEOUT
            assert not scene.informer.synced.is_set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        caplog.clear()
