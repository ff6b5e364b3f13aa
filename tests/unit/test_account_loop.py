"""One account's loop in virtual time: what it asks, plans and writes, and when.

Chance always chooses the longest wait, so that times can be told beforehand: backoffs of 1 to 60 s
are 2, 4, 8, 16, 32, 60, 60 seconds.
"""

import asyncio
import base64
import logging
import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.build import ACCOUNT, NOW, account, channel, ready, row, settings
from wazzup_operator.controller import account_loop
from wazzup_operator.controller.account_loop import OF_ONE_ACCOUNT, AccountLoop, Dependencies
from wazzup_operator.controller.store import Store
from wazzup_operator.domain.listing import Listing
from wazzup_operator.kube.errors import ConnectionFailed, Deposed, Refused
from wazzup_operator.kube.secrets import SecretReader
from wazzup_operator.kube.status import StatusWriter, Written
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelStatus
from wazzup_operator.resources.codec import CHANNELS
from wazzup_operator.wazzup.errors import unreachable

pytestmark = pytest.mark.looptime

AWAY = ConnectionFailed("the API server is away")
KEY = NamespacedName("shop", "support")
DOUBLING = [0, 2, 6, 14, 30, 62, 122, 182]
"""Tries at 1 to 60 s that fail from the beginning on."""


@pytest.fixture(scope="module", autouse=True)
def no_loop_is_left():
    """Python 3.11 keeps the last test's loop as the thread's."""
    yield
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def longest(monkeypatch):
    """Let chance always choose the most."""
    monkeypatch.setattr(random, "uniform", lambda least, most: max(least, most))


@pytest.fixture(autouse=True)
def plans(monkeypatch):
    """Let the wall clock go with the loop's, and take down when a pass is planned."""
    times, plan = [], account_loop.plan

    def recorded(view):
        times.append(now())
        return plan(view)

    monkeypatch.setattr(account_loop, "plan", recorded)
    return times


@pytest.fixture(autouse=True)
def no_surprises(caplog):
    """Let a test fail whose passes failed, unless it expects that and clears the log."""
    yield
    assert not [each for each in caplog.get_records("call") if each.levelno >= logging.ERROR]


def now():
    return round(asyncio.get_running_loop().time(), 3)


async def until(seconds):
    """Wait until so long after the beginning."""
    await asyncio.sleep(seconds - asyncio.get_running_loop().time())


def patched(old, patch):
    """Return what an RFC 7386 patch makes of an object."""
    new = {key: value for key, value in old.items() if key not in patch}
    for key, value in patch.items():
        if isinstance(value, dict):
            new[key] = patched(old.get(key, {}), value)
        elif value is not None:
            new[key] = value
    return new


def wall():
    return NOW + timedelta(seconds=int(now()))


class Server:
    """An API server with one Secret. `calls` are (seconds, what was asked for)."""

    def __init__(self, calls):
        self.calls = calls
        self.statuses = {}
        self.secret_fails = None
        self.patch_fails = None
        self.on_patch = None

    async def get(self, path):
        self.calls.append((now(), "secret"))
        assert len(self.calls) < 10_000, "it asks in a tight loop"
        if self.secret_fails:
            raise self.secret_fails.with_traceback(None)
        return {"data": {"apiKey": base64.b64encode(b"key").decode()}}

    async def merge_patch(self, path, body):
        name = path.split("/")[-2]
        self.calls.append((now(), name))
        if self.on_patch:
            await self.on_patch(name)
        if self.patch_fails:
            raise self.patch_fails.with_traceback(None)
        self.statuses[name] = patched(self.statuses.get(name, {}), body["status"])
        version = str(1 + int(body["metadata"]["resourceVersion"]))
        return {"metadata": {"resourceVersion": version}, "status": self.statuses[name]}


class Wazzup:
    """Lists `rows`, after `takes` seconds, or fails."""

    def __init__(self, calls):
        self.calls = calls
        self.rows = [row()]
        self.takes = 0
        self.fails = None

    async def list_channels(self, key):
        assert key == "key"
        self.calls.append((now(), "listing"))
        await asyncio.sleep(self.takes)
        if self.fails:
            raise self.fails.with_traceback(None)
        return Listing.of(self.rows)


class Events:
    """Takes Events and forgets them."""

    def record(self, *event):
        pass


class Scene:
    """An account's loop, running, and all that is around it."""

    def __init__(self, *objects):
        self.calls = []
        self.server = Server(self.calls)
        self.wazzup = Wazzup(self.calls)
        self.store = Store(lambda key, requested: self.loop.wake(requested=requested))
        self.writer, secrets = StatusWriter(self.server), SecretReader(self.server)
        deps = Dependencies(
            settings(), self.store, secrets, self.wazzup, self.writer, Events(), wall
        )
        self.loop = AccountLoop(ACCOUNT, deps)
        self.put(*objects)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.loop.run())
        return self

    async def __aexit__(self, *error):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def put(self, *objects):
        """Let the informers tell of these."""
        for each in objects:
            is_channel = hasattr(each, "account_key")
            (self.store.channels if is_channel else self.store.accounts).upsert(each)

    def remove(self, object_):
        """Let an informer tell that this has been deleted."""
        is_channel = hasattr(object_, "account_key")
        table = self.store.channels if is_channel else self.store.accounts
        table.remove(object_.metadata.key, object_.metadata.uid)

    def edit(self, **spec):
        """Let the informer tell of a new generation of the channel."""
        old = self.store.channels.objects[KEY]
        version = str(1 + int(old.metadata.resource_version))
        metadata = replace(
            old.metadata, generation=old.metadata.generation + 1, resource_version=version
        )
        self.put(replace(old, metadata=metadata, spec=replace(old.spec, **spec)))

    def times(self, of):
        """Return when that was asked for."""
        return [seconds for seconds, what in self.calls if what == of]

    def since(self, seconds):
        """Return what was asked for from then on, in its order."""
        return [what for at, what in self.calls if at >= seconds]

    @property
    def channel(self):
        return self.store.channels.objects[KEY].status

    @property
    def account(self):
        return self.store.accounts.objects[ACCOUNT].status


class TestRhythm:
    """Passes without trouble."""

    async def test_one_pass_writes_what_was_listed_the_account_last(self):
        async with Scene(account(), channel()) as scene:
            await until(1)
            assert scene.since(0) == ["secret", "listing", "support", "default"]
            assert (scene.channel.state, ready(scene.account)) == ("Active", ("True", "UpToDate"))

    async def test_it_lists_on_the_interval_and_writes_nothing_twice(self):
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(200)
            assert scene.times("listing") == [0, 60, 120, 180]
            assert scene.times("support") == [0]

    async def test_a_change_within_5_s_is_planned_with_the_last_listing(self, plans):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(4.9)
            scene.edit(active=False)
            await until(6)
            assert plans == [0, 4.9]
            assert scene.times("listing") == [0]
            assert ready(scene.channel) == ("False", "StillActive")

    async def test_a_later_change_is_listed_for(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(5.1)
            scene.edit(active=False)
            await until(7)
            assert scene.times("listing") == [0, 5.1]

    async def test_wakes_within_a_second_of_a_pass_make_one(self, plans):
        async with Scene(account(poll="1h"), channel()) as scene:
            for seconds in (10, 10.3, 10.6, 10.9):
                await until(seconds)
                scene.loop.wake(requested=False)
            await until(100)
            assert plans == [0, 10, 11]

    async def test_a_channel_missing_once_is_kept_until_the_second_listing(self):
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.wazzup.rows = []
            await until(61)
            assert scene.channel.state == "Active"
            await until(63)
            assert scene.channel.state == "NotAdded"
            await until(130)
            assert scene.times("listing") == [0, 60, 62, 122]

    async def test_the_pass_under_way_is_told(self):
        scene = Scene(account(), channel())
        scene.wazzup.takes = 3
        async with scene:
            await until(2)
            assert scene.loop.silence() == 2
            await until(4)
            assert scene.loop.silence() == 0


class TestTooMany:
    """An API server that asks to wait (429)."""

    async def test_what_waited_is_planned_anew(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(10)
            scene.server.patch_fails = Refused(429, "too many", retry_after=12.0)
            scene.edit(active=False)
            await until(11)
            scene.server.patch_fails = None
            scene.edit(active=True)
            await until(60)
            tried = [at for at in scene.times("support") if at >= 10]
            assert len(tried) == 2
            assert tried[1] - tried[0] >= 12
            assert ready(scene.channel) == ("True", "Active")
            assert scene.channel.observed_generation == 3


class TestOrder:
    """Many writes at once: what somebody waits for goes first."""

    @pytest.fixture
    def fleet(self):
        """An account with 320 channels that all are Active and known to be, but for KEY's."""
        names = [f"number-{n:03d}" for n in range(320)]
        numbers = [f"+7986578{4000 + n}" for n in range(320)]
        scene = Scene(
            account(poll="10s"),
            *(channel(name, number) for name, number in zip(names, numbers, strict=True)),
            channel(),
        )
        self.show(scene, numbers, "active")
        return scene, names, numbers

    def show(self, scene, numbers, state):
        """Let Wazzup list all of them in this state, and KEY's as active."""
        listed = [row(f"id-{number}", state, number) for number in numbers]
        scene.wazzup.rows = [*listed, row()]

    async def test_a_change_is_written_before_what_is_routine(self, fleet):
        scene, names, numbers = fleet
        async with scene:
            await until(9)
            self.show(scene, numbers, "qridle")
            scene.edit(active=False)
            await until(12)
            order = [what for what in scene.since(9) if what in {*names, "support"}]
            assert order[0] == "support"
            assert len(order) == 321

    async def test_a_change_does_not_wait_for_thousands_of_routine_writes(self, fleet):
        """Here 320 take 20 rounds of half a second; the change comes in the second one."""
        scene, names, numbers = fleet

        async def slowly(name):
            await asyncio.sleep(0.5)

        async with scene:
            await until(9)
            self.show(scene, numbers, "qridle")
            scene.server.on_patch = slowly
            await until(10.7)
            scene.edit(active=False)
            await until(15)
            (written,) = [at for at in scene.times("support") if at > 9]
            assert written <= 13
            assert not [at for at in scene.times("default") if 9 < at <= 15]
            await until(30)
            routine = Counter(what for what in scene.since(9) if what in names)
            assert routine == dict.fromkeys(names, 1)
            assert [at for at in scene.times("default") if at > 15]
            assert scene.account.channels.ready == 0


class TestEnd:
    """The loop's end."""

    async def test_it_ends_when_nothing_refers_to_the_account(self):
        async with Scene(account(), channel()) as scene:
            await until(10)
            scene.remove(account())
            scene.remove(channel())
            await asyncio.wait_for(scene.task, 2)

    async def test_it_goes_on_while_a_channel_refers_to_it(self):
        async with Scene(account(), channel()) as scene:
            await until(10)
            scene.remove(account())
            await until(5000)
            assert not scene.task.done()
            assert ready(scene.channel) == ("Unknown", "AccountNotFound")
            scene.remove(channel())
            await asyncio.wait_for(scene.task, 2)


class TestRequest:
    """Listings that somebody asked for."""

    async def test_it_lists_though_the_last_listing_is_fresh(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(2)
            scene.loop.wake(requested=True)
            await until(100)
            assert scene.times("listing") == [0, 2]

    async def test_a_request_during_a_listing_brings_another_right_after(self):
        scene = Scene(account(poll="1h"), channel())
        scene.wazzup.takes = 2
        async with scene:
            await until(1)
            scene.loop.wake(requested=True)
            await until(100)
            assert scene.times("listing") == [0, 2]

    async def test_news_during_a_listing_are_planned_with_it(self, plans):
        scene = Scene(account(poll="1h"), channel())
        scene.wazzup.takes = 2
        async with scene:
            await until(1)
            scene.edit(active=False)
            await until(100)
            assert plans == [2]
            assert ready(scene.channel) == ("False", "StillActive")

    @pytest.mark.parametrize("requested", [True, False], ids=["request", "news"])
    async def test_it_outlives_an_api_server_that_is_away(self, requested):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(10)
            scene.server.secret_fails = AWAY
            scene.loop.wake(requested=requested)
            await until(20)
            scene.server.secret_fails = None
            await until(100)
            assert scene.times("secret") == [0, 10, 12, 16, 24]
            assert scene.times("listing") == [0, 24]

    async def test_a_request_waits_for_retry_after_without_spinning(self, plans):
        scene = Scene(account(poll="1h"), channel())
        scene.wazzup.fails = unreachable("Wazzup is busy.", "429", retry_after=30)
        async with scene:
            await until(5)
            scene.loop.wake(requested=True)
            await until(29)
            assert plans == [0, 5]
            scene.wazzup.fails = None
            await until(100)
            assert scene.times("listing") == [0, 30]


class TestDeleted:
    """Answers that come after their object has gone."""

    async def test_a_late_answer_brings_nothing_back(self):
        scene = Scene(account(), channel())

        async def delete(name):
            if name == "support":
                scene.remove(channel())

        scene.server.on_patch = delete
        async with scene:
            await until(100)
            assert scene.times("support") == [0]
            assert list(scene.store.all_channels()) == []

    async def test_a_late_answer_does_not_take_the_place_of_a_namesake(self):
        old, new = channel(uid="old", version=5), channel(uid="new", version=9)
        scene = Scene(account(), old)

        async def recreate(name):
            if old in scene.store.all_channels():
                scene.remove(old)
                scene.put(new)

        scene.server.on_patch = recreate
        async with scene:
            await until(0.5)
            assert list(scene.store.all_channels()) == [new]
            await until(10)
            assert scene.channel.state == "Active"
            assert scene.store.channels.objects[KEY].metadata.uid == "new"


class TestRefusedWrites:
    """An API server that does not take statuses."""

    @pytest.mark.parametrize("status", [404, 409, 422])
    async def test_it_is_tried_again_ever_more_seldom(self, status):
        scene = Scene(account(poll="1h"), channel())
        scene.server.patch_fails = Refused(status, "no")
        async with scene:
            await until(190)
            assert scene.times("support") == DOUBLING
            assert scene.times("listing") == [0]

    @pytest.mark.parametrize("status", [404, 409, 422])
    async def test_wazzup_is_not_asked_more_often_than_the_interval(self, status):
        scene = Scene(account(poll="20s"), channel())
        scene.server.patch_fails = Refused(status, "no")
        async with scene:
            await until(90)
            assert scene.times("listing") == [0, 20, 40, 60, 80]

    async def test_a_success_begins_anew(self):
        scene = Scene(account(poll="1h"), channel())
        scene.server.patch_fails = Refused(409, "no")
        async with scene:
            await until(5)
            scene.server.patch_fails = None
            await until(100)
            assert scene.times("support") == [0, 2, 6]
            scene.server.patch_fails = Refused(409, "no")
            scene.edit(active=False)
            await until(107)
            assert scene.times("support") == [0, 2, 6, 100, 102, 106]


class TestSlowRefusals:
    """An API server that takes long to refuse, as one does whose webhooks do not answer."""

    @pytest.fixture
    def fleet(self):
        """An account with 1,200 new channels, each of whose writes takes 10 s."""
        names = [f"c{number:04d}" for number in range(1200)]
        numbers = [f"+7912{number:07d}" for number in range(1200)]
        scene = Scene(account(poll="1h"), *map(channel, names, numbers))
        scene.wazzup.rows = [
            row(name, number=number) for name, number in zip(names, numbers, strict=True)
        ]

        async def slowly(name):
            await asyncio.sleep(10)

        scene.server.on_patch = slowly
        return scene, names

    async def test_the_pass_ends(self, fleet):
        scene, names = fleet
        scene.server.patch_fails = Refused(500, "failed calling webhook")
        async with scene:
            await until(41)
            assert scene.loop.silence() == 0
            tried = [what for what in scene.since(0) if what in names]
            assert 16 <= len(tried) <= 16 + OF_ONE_ACCOUNT
            await until(600)
            scene.server.patch_fails = scene.server.on_patch = None
            await until(700)
            assert scene.server.statuses.keys() == {*names, "default"}

    async def test_slow_successes_are_no_hang(self, fleet):
        scene, _ = fleet
        async with scene:
            for seconds in range(5, 1100, 5):
                await until(seconds)
                assert scene.loop.silence() <= 10
            assert len(scene.server.statuses) == 1201

    async def test_what_is_always_refused_keeps_nothing_from_being_written(self, fleet):
        """Even if it is what somebody waits for."""
        scene, names = fleet
        scene.server.on_patch = None
        refused = set(names[:100])
        written = scene.server.merge_patch

        async def refuse_some(path, body):
            if path.split("/")[-2] in refused:
                raise Refused(422, "not these")
            return await written(path, body)

        scene.server.merge_patch = refuse_some
        async with scene:
            await until(600)
            assert scene.server.statuses.keys() == {*names, "default"} - refused

    async def test_what_is_always_refused_delays_nobody_who_waits(self, fleet):
        """Routine writes are refused at once, all of them; then somebody makes an object."""
        scene, names = fleet
        scene.server.on_patch = None
        written = scene.server.merge_patch

        async def refuse_old(path, body):
            if path.split("/")[-2] in names:
                raise Refused(422, "not these")
            return await written(path, body)

        async with scene:
            await until(5)
            scene.server.merge_patch = refuse_old
            scene.wazzup.rows = [replace(each, upstream_state="qr") for each in scene.wazzup.rows]
            scene.loop.wake(requested=True)
            await until(300)
            scene.put(channel("new", "+79990001122"))
            await until(302)
            assert "new" in scene.server.statuses

    async def test_who_waits_comes_first_again_when_it_was_for_a_moment(self, fleet):
        scene, names = fleet
        scene.server.on_patch = None
        async with scene:
            await until(5)
            scene.wazzup.rows = [replace(each, upstream_state="qr") for each in scene.wazzup.rows]
            scene.server.patch_fails = Refused(422, "not now")
            scene.put(channel("new", "+79990001122"))
            await until(7)
            assert scene.times("new"), "it was tried, and refused"
            scene.server.patch_fails = None
            tried = len(scene.calls)
            await until(15)
            after = [what for _, what in scene.calls[tried:] if what in {*names, "new"}]
            assert len(after) > 1000
            assert after.index("new") < OF_ONE_ACCOUNT

    async def test_who_is_asked_to_wait_keeps_the_order(self, fleet):
        """A new object's write meets a 429; when the wait is over, it goes first again."""
        scene, names = fleet
        scene.server.on_patch = None
        async with scene:
            await until(5)
            scene.wazzup.rows = [replace(each, upstream_state="qr") for each in scene.wazzup.rows]
            scene.put(channel("new", "+79990001122"))
            tried = len(scene.calls)
            scene.server.patch_fails = Refused(429, "busy", 3.0)
            await until(7)
            scene.server.patch_fails = None
            await until(12)
            after = [what for _, what in scene.calls[tried:] if what in {*names, "new"}]
            assert after.count("new") == 2, after[:40]
            assert after.index("new") < OF_ONE_ACCOUNT
            again = after.index("new", after.index("new") + 1)
            assert again < 2 * OF_ONE_ACCOUNT

    async def test_another_account_s_writes_do_not_wait(self, fleet):
        scene, _ = fleet
        other = channel("other", "+79990001122", account="second")
        async with scene:
            await until(15)
            begun = now()
            scene.server.on_patch = None
            status = ChannelStatus(observed_generation=1, state="Active")
            assert isinstance(await scene.writer.write(CHANNELS, other, status), Written)
            assert now() - begun < 1


class TestServerAway:
    """An API server that cannot be reached."""

    async def test_the_pass_ends_in_the_middle_of_many_writes(self):
        numbers = [f"+7912{number:07d}" for number in range(500)]
        names = [f"c{number}" for number in range(500)]
        scene = Scene(account(poll="1h"), *map(channel, names, numbers))
        scene.wazzup.rows = [
            row(name, number=number) for name, number in zip(names, numbers, strict=True)
        ]
        failures = []

        async def time_out(name):
            await asyncio.sleep(0.1)
            if len(scene.server.statuses) >= 200 and now() < 100:
                failures.append(name)
                await asyncio.sleep(30)
                raise AWAY

        scene.server.on_patch = time_out
        async with scene:
            await until(33)
            assert scene.loop.silence() == 0
            assert 0 < len(failures) <= OF_ONE_ACCOUNT
            assert not scene.times("default")
            await until(300)
            assert len(scene.server.statuses) == 501
            assert scene.times("listing") == [0]

    async def test_writes_are_tried_again_ever_more_seldom(self):
        scene = Scene(account(poll="1h"), channel())
        scene.server.patch_fails = AWAY
        async with scene:
            await until(190)
            assert scene.times("support") == DOUBLING
            assert scene.times("default") == []

    async def test_nothing_is_planned_while_it_may_pass(self, plans):
        scene = Scene(account(poll="1h"), channel())
        scene.server.secret_fails = AWAY
        async with scene:
            await until(13)
            assert set(scene.since(0)) == {"secret"}
            assert plans == []

    async def test_what_was_known_is_unknown_after_stale_after(self):
        """Only Secrets are not answered; everything else is."""
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = AWAY
            await until(75)
            assert scene.times("default") == [0, 74]
            assert ready(scene.account) == ("False", "AccountUnreachable")
            (condition, *_) = scene.account.conditions
            assert condition.message == (
                'The Secret "wazzup" cannot be read: the API server is away.'
            )
            await until(599)
            assert scene.times("support") == [0]
            await until(602)
            assert scene.channel.state == "Unknown"
            assert ready(scene.channel) == ("Unknown", "AccountUnreachable")
            scene.server.secret_fails = None
            await until(670)
            assert scene.channel.state == "Active"
            assert ready(scene.account) == ("True", "UpToDate")

    async def test_it_lists_first_after_a_long_outage_too(self):
        """What was planned without a listing is not written when the API server is back."""
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = scene.server.patch_fails = AWAY
            await until(3600)
            scene.server.secret_fails = scene.server.patch_fails = None
            scene.wazzup.rows = [row(state="qr")]
            await until(3661)
            assert scene.since(3600)[:4] == ["secret", "listing", "support", "default"]
            assert scene.channel.state == "ScanQRCode"

    async def test_an_edit_is_answered_while_the_secret_cannot_be_read(self):
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = AWAY
            await until(100)
            scene.edit(active=False)
            await until(102)
            assert scene.channel.observed_generation == 2
            assert ready(scene.channel) == ("Unknown", "AccountUnreachable")

    async def test_a_deposed_leader_plans_nothing(self, plans):
        scene = Scene(account(poll="60s"), channel())
        scene.server.secret_fails = Deposed("this replica does not lead any more")
        async with scene:
            await until(1000)
            assert plans == []

    async def test_each_outage_begins_with_the_least_wait(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            for seconds in (10, 100):
                await until(seconds)
                scene.server.secret_fails = AWAY
                scene.loop.wake(requested=True)
                await until(seconds + 5)
                scene.server.secret_fails = None
            await until(200)
            assert scene.times("secret") == [0, 10, 12, 16, 100, 102, 106]

    async def test_it_lists_first_when_the_server_is_back(self, plans):
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = AWAY
            await until(70)
            scene.server.secret_fails = None
            scene.wazzup.rows = [row(state="qr")]
            await until(75)
            assert scene.times("secret") == [0, 60, 62, 66, 74]
            assert scene.since(70) == ["secret", "listing", "support", "default"]
            assert scene.channel.state == "ScanQRCode"
            assert plans == [0, 74]

    async def test_an_edit_meanwhile_is_not_planned_with_the_old_listing(self, plans):
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = AWAY
            await until(70)
            scene.edit(active=False)
            await until(73)
            assert plans == [0]
            scene.server.secret_fails = None
            await until(100)
            assert ready(scene.channel) == ("False", "StillActive")
            assert plans[1] == scene.times("listing")[1]


class TestSecret:
    """A Secret that the API server does not give."""

    async def test_a_secret_that_answers_500_for_a_moment_is_told_to_nobody(self):
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(9)
            scene.server.secret_fails = Refused(503, "the API server refused (503): busy")
            await until(15)
            scene.server.secret_fails = None
            await until(60)
            assert scene.times("default") == [0]

    async def test_a_secret_that_goes_on_answering_500_is_told_of_the_account(self):
        scene = Scene(account(poll="1h"), channel())
        scene.server.secret_fails = Refused(500, "the API server refused (500): no KMS")
        async with scene:
            await until(70)
            assert ready(scene.account) == ("False", "AccountUnreachable")
            (condition, *_) = scene.account.conditions
            assert condition.message == (
                'The Secret "wazzup" cannot be read: the API server refused (500): no KMS.'
            )
            assert scene.times("default") == [14]
            scene.server.secret_fails = None
            await until(100)
            assert ready(scene.account) == ("True", "UpToDate")
            assert scene.channel.state == "Active"

    @pytest.mark.parametrize("woken", [False, True])
    async def test_it_is_not_asked_for_again_before_retry_after(self, woken):
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = Refused(429, "too many", retry_after=9.0)
            await until(61)
            if woken:
                scene.loop.wake(requested=True)
            await until(68)
            scene.server.secret_fails = None
            await until(75)
            assert scene.times("secret") == [0, 60, 69]
            assert scene.times("default") == [0]

    async def test_a_long_retry_after_is_told_of_the_account_at_once(self):
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = Refused(429, "too many", retry_after=100.0)
            await until(62)
            assert ready(scene.account) == ("False", "AccountUnreachable")
            scene.loop.wake(requested=True)
            await until(159)
            assert scene.times("secret") == [0, 60]
            scene.server.secret_fails = None
            await until(162)
            assert scene.times("secret") == [0, 60, 160]
            assert ready(scene.account) == ("True", "UpToDate")

    async def test_an_api_server_that_was_away_is_told_of_nowhere(self):
        """Whatever wakes the loop when it is back, the Secret and the listing come first."""
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(9)
            away = ConnectionFailed("the API server could not be reached")
            scene.server.secret_fails = scene.server.patch_fails = away
            await until(200)
            told = len(scene.calls)
            scene.server.secret_fails = scene.server.patch_fails = None
            scene.put(channel("new", "+79990001122"))
            await until(270)
            assert [what for _, what in scene.calls[told:]][:2] == ["secret", "listing"]
            assert [what for _, what in scene.calls[told:]].count("new") == 1
            assert scene.server.statuses["new"]["state"] == "NotAdded"


class TestSurprise:
    """Errors that nobody foresaw."""

    async def test_a_failed_plan_is_logged_and_tried_again(self, monkeypatch, caplog):
        tries, plan = [], account_loop.plan

        def surprise(view):
            tries.append(now())
            if len(tries) < 4:
                raise RuntimeError("surprise")
            return plan(view)

        monkeypatch.setattr(account_loop, "plan", surprise)
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(100)
            assert tries == DOUBLING[:4]
            assert scene.times("listing") == [0]
            assert scene.channel.state == "Active"
        told = [each for each in caplog.records if "a pass failed" in each.getMessage()]
        assert len(told) == 3
        assert all(each.exc_info and each.levelno == logging.ERROR for each in told)
        caplog.clear()

    async def test_a_failed_listing_is_tried_again_ever_more_seldom(self, caplog):
        scene = Scene(account(poll="1h"), channel())
        scene.wazzup.fails = RuntimeError("surprise")
        async with scene:
            await until(190)
            caplog.clear()
            assert scene.times("listing") == DOUBLING

    async def test_a_request_outlives_a_listing_that_failed_by_surprise(self, caplog):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(2)
            scene.wazzup.fails = RuntimeError("surprise")
            scene.loop.wake(requested=True)
            await until(2.5)
            scene.wazzup.fails = None
            await until(100)
            caplog.clear()
            assert scene.times("listing") == [0, 2, 4]


class TestDoubts:
    """What a listing does not say clearly."""

    async def test_they_are_told_when_they_change(self, caplog, monkeypatch):
        doubtful = ["a"]
        listing = Listing.of
        monkeypatch.setattr(
            account_loop.Listing, "of", lambda rows: listing(rows, doubtful_ids=doubtful)
        )
        async with Scene(account(poll="60s"), channel()):
            await until(130)
            assert len(caplog.records) == 1
            doubtful.append("b")
            await until(250)
            assert len(caplog.records) == 2
            doubtful.clear()
            caplog.set_level(logging.INFO)
            caplog.clear()
            await until(370)
            (told,) = [each for each in caplog.records if "in doubt any more" in each.getMessage()]
            assert told.levelno == logging.INFO
