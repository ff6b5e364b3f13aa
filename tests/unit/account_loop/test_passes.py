"""When a loop runs a pass, lists and ends.

Random waits are as long as possible: backoffs of 1 to 60 s are 2, 4, 8, 16, 32, 60, 60 seconds.
"""

import asyncio
import logging

import pytest

from tests.unit.account_loop.scene import DOUBLING, UNREACHABLE, Scene
from tests.unit.build import OTHER_PHONE, account, channel, ready, row
from tests.unit.virtual_time import now, until
from wazzup_operator.controller import account_loop
from wazzup_operator.reconcile import find as find_module
from wazzup_operator.reconcile import plan as plan_module
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel
from wazzup_operator.resources.codec import CHANNELS
from wazzup_operator.wazzup.errors import unreachable

pytestmark = pytest.mark.looptime

ANOTHER = row("z", number=OTHER_PHONE)


class TestSchedule:
    """Passes without failures."""

    async def test_one_pass_lists_and_writes_the_account_last(self):
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

    async def test_a_later_change_brings_a_listing(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(5.1)
            scene.edit(active=False)
            await until(7)
            assert scene.times("listing") == [0, 5.1]

    async def test_wake_ups_within_a_second_share_a_pass(self, plans):
        async with Scene(account(poll="1h"), channel()) as scene:
            for seconds in (10, 10.3, 10.6, 10.9):
                await until(seconds)
                scene.loop.wake(requested=False)
            await until(100)
            assert plans == [0, 10, 11]

    async def test_a_missing_channel_is_kept_until_the_listing_after_60_s(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(3599)
            scene.wazzup.rows = [ANOTHER]
            await until(3659)
            assert scene.channel.state == "Active"
            await until(3662)
            assert scene.channel.state == "NotAdded"
            await until(7300)
            assert scene.times("listing") == [0, 3600, 3660, 7260]

    async def test_another_key_starts_the_60_s_again(self):
        async with Scene(account(poll="40s"), channel()) as scene:
            await until(59)
            scene.wazzup.rows = [ANOTHER]
            await until(99)
            scene.server.put_key("another-key")
            await until(179)
            assert scene.channel.state == "Active"
            await until(181)
            assert scene.channel.state == "NotAdded"

    async def test_stuck_for_counts_during_a_pass(self):
        scene = Scene(account(), channel())
        scene.wazzup.takes = 3
        async with scene:
            await until(2)
            assert scene.loop.stuck_for() == 2
            await until(4)
            assert scene.loop.stuck_for() == 0


class TestRequest:
    """Requested listings."""

    async def test_it_lists_even_if_the_last_listing_is_fresh(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(2)
            scene.loop.wake(requested=True)
            await until(100)
            assert scene.times("listing") == [0, 2]

    async def test_it_does_not_wait_for_the_gap_between_passes(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(9)
            scene.edit(active=False)  # a pass at 9
            await until(9.2)
            scene.loop.wake(requested=False)  # waits until 10
            await until(9.4)
            scene.wazzup.rows = [row("a", "qr")]
            scene.loop.wake(requested=True)
            await until(9.5)
            assert scene.times("listing") == [0, 9, 9.4]
            assert scene.channel.state == "ScanQRCode"

    async def test_many_requests_list_once_per_second(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            for tenths in range(100, 130):
                await until(tenths / 10)
                scene.loop.wake(requested=True)
            await until(100)
            assert scene.times("listing") == [0, 10, 11, 12, 13]

    async def test_a_namespace_waits_for_its_turn_and_other_changes_do_not(self, plans):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(9)
            for _ in range(70):
                scene.requests.turn("shop", now())
            for tenths in range(90, 110):
                await until(tenths / 10)
                scene.loop.wake(requested=True)
            assert plans == [0]
            scene.edit(active=False)
            await until(11)
            assert ready(scene.channel) == ("False", "StillActive")
            await until(100)
            assert scene.times("listing") == [0, 10.9, pytest.approx(11.1)]

    async def test_a_request_during_a_listing_brings_another_directly_after(self):
        scene = Scene(account(poll="1h"), channel())
        scene.wazzup.takes = 2
        async with scene:
            await until(1)
            scene.loop.wake(requested=True)
            await until(100)
            assert scene.times("listing") == [0, 2]

    async def test_a_change_during_a_listing_is_planned_with_it(self, plans):
        scene = Scene(account(poll="1h"), channel())
        scene.wazzup.takes = 2
        async with scene:
            await until(1)
            scene.edit(active=False)
            await until(100)
            assert plans == [2]
            assert ready(scene.channel) == ("False", "StillActive")

    @pytest.mark.parametrize("requested", [True, False], ids=["request", "change"])
    async def test_it_survives_an_unreachable_api_server(self, requested):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(40)
            scene.server.secret_fails = UNREACHABLE
            scene.loop.wake(requested=requested)
            await until(50)
            scene.server.secret_fails = None
            await until(100)
            assert scene.times("secret") == [0, 40, 42, 46, 54]
            assert scene.times("listing") == [0, 54]

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


class TestEnd:
    """The loop's end."""

    async def test_it_ends_when_nothing_references_the_account(self):
        async with Scene(account(), channel()) as scene:
            await until(10)
            scene.remove(account())
            scene.remove(channel())
            await asyncio.wait_for(scene.task, 2)

    async def test_it_runs_while_a_channel_references_the_account(self):
        async with Scene(account(), channel()) as scene:
            await until(10)
            scene.remove(account())
            await until(5000)
            assert not scene.task.done()
            assert ready(scene.channel) == ("Unknown", "AccountNotFound")
            scene.remove(channel())
            await asyncio.wait_for(scene.task, 2)

    async def test_it_ends_when_the_last_channel_references_another(self):
        async with Scene(channel()) as scene:
            await until(10)
            scene.edit(accountRef={"name": "second"})
            await asyncio.wait_for(scene.task, 2)


class TestMove:
    """An object moved from another account."""

    @pytest.mark.parametrize("former", [True, False], ids=["moved", "not moved"])
    async def test_the_first_listing_does_not_expect_the_former_channel(self, former):
        status = ChannelStatus(
            observed_generation=1,
            account="former" if former else "default",
            state="Active",
            channel_id="gone",
        )
        async with Scene(account(poll="1h"), channel(generation=2, status=status)) as scene:
            scene.server.statuses["support"] = CHANNELS.status_json(status)
            scene.wazzup.rows = [ANOTHER]
            await until(1.5)
            assert scene.channel.account == "default"
            assert scene.channel.state == ("NotAdded" if former else "Active")
            assert scene.times("listing") == [0]
            await until(62)
            assert scene.channel.state == "NotAdded"
            assert scene.times("listing") == ([0] if former else [0, 60])


class TestUnexpectedError:
    """Errors that no code expects."""

    async def test_a_failed_plan_is_logged_and_retried(self, monkeypatch, caplog):
        attempts, plan = [], account_loop.plan

        def crash(view, findings):
            attempts.append(now())
            if len(attempts) < 4:
                raise RuntimeError("unexpected")
            return plan(view, findings)

        monkeypatch.setattr(account_loop, "plan", crash)
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(100)
            assert attempts == DOUBLING[:4]
            assert scene.times("listing") == [0]
            assert scene.channel.state == "Active"
        logged = [each for each in caplog.records if "a pass failed" in each.getMessage()]
        assert len(logged) == 3
        assert all(each.exc_info and each.levelno == logging.ERROR for each in logged)
        caplog.clear()

    async def test_failed_listings_back_off(self, caplog):
        scene = Scene(account(poll="1h"), channel())
        scene.wazzup.fails = RuntimeError("unexpected")
        async with scene:
            await until(190)
            caplog.clear()
            assert scene.times("listing") == DOUBLING

    async def test_a_request_survives_a_listing_that_crashed(self, caplog):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(2)
            scene.wazzup.fails = RuntimeError("unexpected")
            scene.loop.wake(requested=True)
            await until(2.5)
            scene.wazzup.fails = None
            await until(100)
            caplog.clear()
            assert scene.times("listing") == [0, 2, 4]

    @pytest.mark.parametrize(
        ("module", "name"), [(plan_module, "next_status"), (find_module._Finder, "_finding")]
    )
    async def test_one_object_does_not_stop_the_others(self, module, name, monkeypatch, caplog):
        """Finding its channel or planning it fails; it is retried with backoff."""
        attempts, works = [], getattr(module, name)

        def crash(*arguments):
            object_ = next(each for each in arguments if isinstance(each, WazzupChannel))
            if object_.metadata.name != "support":
                return works(*arguments)
            attempts.append(now())
            raise OverflowError("date value out of range")

        monkeypatch.setattr(module, name, crash)
        scene = Scene(account(poll="1h"), channel(), channel("other", "+79990001122"))
        async with scene:
            await until(100)
            assert attempts == DOUBLING[:6]
            assert scene.server.statuses.keys() == {"other", "default"}
            assert scene.times("listing") == [0]
        logged = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
        assert logged[0] == (
            "account shop/default: planning failed for shop/support and 0 others; retrying"
        )
        assert "OverflowError: date value out of range" in caplog.text
        caplog.clear()

    async def test_an_error_that_a_recorded_claim_causes_is_logged(self, monkeypatch, caplog):
        """The object is not planned until its claim is recorded: others must see it."""
        scene = Scene(account(poll="1h"), channel())
        record_found, attempts = scene.store.record_found, []

        def crash(*claim):
            attempts.append(now())
            if len(attempts) < 3:
                raise RuntimeError("unexpected")
            record_found(*claim)

        monkeypatch.setattr(scene.store, "record_found", crash)
        async with scene:
            await until(2)
            assert scene.server.statuses.keys() == {"default"}
            await until(100)
            assert attempts == DOUBLING[:3]
            assert scene.channel.state == "Active"
        logged = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
        assert len(logged) == 2
        assert caplog.text.count("RuntimeError: unexpected") == 2
        caplog.clear()

    async def test_a_claim_is_recorded_again_after_an_error(self, monkeypatch, caplog):
        """The pass in which an older object took the number fails; then that object is deleted."""
        scene = Scene(account(poll="1h"), channel(created=5))
        finish, broken = plan_module._Planner.finish, []

        def crash(planner, failed):
            if broken:
                raise RuntimeError("unexpected")
            return finish(planner, failed)

        monkeypatch.setattr(plan_module._Planner, "finish", crash)
        async with scene:
            await until(2)
            scene.loop.wake(requested=False)  # a pass that writes nothing settles the object
            await until(4)
            claimant = scene.store.channels.objects["shop", "support"]
            assert scene.store.claimed(claimant) == "a"
            older = channel("older")
            broken.append(True)
            scene.store.channels.put(older)
            await until(6)
            assert scene.store.claimed(claimant) is None
            broken.clear()
            scene.store.channels.remove(older.metadata.key, older.metadata.uid)
            await until(20)
            assert scene.store.claimed(claimant) == "a"
        caplog.clear()
