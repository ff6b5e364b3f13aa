"""Unreadable Secrets, an unreachable API server, empty and ambiguous listings."""

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.account_loop.scene import DOUBLING, UNREACHABLE, Scene
from tests.unit.build import NOW, account, channel, ready, row
from tests.unit.virtual_time import now, until
from wazzup_operator.controller.status_writes import WORKERS
from wazzup_operator.domain.listing import Listing
from wazzup_operator.kube.errors import ConnectionFailed, Deposed, Refused
from wazzup_operator.resources.account import AccountStatus
from wazzup_operator.resources.channel import ChannelStatus
from wazzup_operator.wazzup.errors import unreachable

pytestmark = pytest.mark.looptime


class TestServerUnreachable:
    """An unreachable API server."""

    async def test_the_pass_is_abandoned_during_many_writes(self):
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
                raise UNREACHABLE

        scene.server.on_patch = time_out
        async with scene:
            await until(33)
            assert scene.loop.stuck_for() == 0
            assert 0 < len(failures) <= WORKERS
            assert not scene.times("default")
            await until(300)
            assert len(scene.server.statuses) == 501
            assert scene.times("listing") == [0]

    async def test_writes_back_off(self):
        scene = Scene(account(poll="1h"), channel())
        scene.server.patch_fails = UNREACHABLE
        async with scene:
            await until(190)
            assert scene.times("support") == DOUBLING
            assert scene.times("default") == []

    async def test_nothing_is_planned_while_it_may_be_temporary(self, plans):
        scene = Scene(account(poll="1h"), channel())
        scene.server.secret_fails = UNREACHABLE
        async with scene:
            await until(13)
            assert set(scene.since(0)) == {"secret"}
            assert plans == []

    async def test_channels_turn_unknown_after_stale_after(self):
        """Only requests for Secrets fail."""
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = UNREACHABLE
            await until(75)
            assert scene.times("default") == [0, 74]
            assert ready(scene.account) == ("False", "AccountUnreachable")
            (condition, *_) = scene.account.conditions
            assert condition.message == (
                'The Secret "wazzup" cannot be read: the API server is unreachable.'
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

    async def test_it_lists_first_after_a_long_outage(self):
        """A plan from before the recovery is not written."""
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = scene.server.patch_fails = UNREACHABLE
            await until(3600)
            scene.server.secret_fails = scene.server.patch_fails = None
            scene.wazzup.rows = [row(state="qr")]
            await until(3661)
            assert scene.since(3600)[:4] == ["secret", "listing", "support", "default"]
            assert scene.channel.state == "ScanQRCode"

    async def test_an_edit_gets_a_status_while_the_secret_cannot_be_read(self):
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = UNREACHABLE
            await until(100)
            scene.edit(active=False)
            await until(102)
            assert scene.channel.observed_generation == 2
            assert ready(scene.channel) == ("Unknown", "AccountUnreachable")

    async def test_a_deposed_leader_plans_nothing(self, plans):
        scene = Scene(account(poll="60s"), channel())
        scene.server.secret_fails = Deposed("this replica is no longer the leader")
        async with scene:
            await until(1000)
            assert plans == []

    async def test_each_outage_starts_at_the_minimum_wait(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            for seconds in (10, 100):
                await until(seconds)
                scene.server.secret_fails = UNREACHABLE
                scene.loop.wake(requested=True)
                await until(seconds + 5)
                scene.server.secret_fails = None
            await until(200)
            assert scene.times("secret") == [0, 10, 12, 16, 100, 102, 106]

    async def test_it_lists_first_after_a_short_outage(self, plans):
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = UNREACHABLE
            await until(70)
            scene.server.secret_fails = None
            scene.wazzup.rows = [row(state="qr")]
            await until(75)
            assert scene.times("secret") == [0, 60, 62, 66, 74]
            assert scene.since(70) == ["secret", "listing", "support", "default"]
            assert scene.channel.state == "ScanQRCode"
            assert plans == [0, 74]

    async def test_an_edit_during_an_outage_is_planned_with_a_new_listing(self, plans):
        async with Scene(account(poll="60s"), channel()) as scene:
            await until(59)
            scene.server.secret_fails = UNREACHABLE
            await until(70)
            scene.edit(active=False)
            await until(73)
            assert plans == [0]
            scene.server.secret_fails = None
            await until(100)
            assert ready(scene.channel) == ("False", "StillActive")
            assert plans[1] == scene.times("listing")[1]


class TestSecret:
    """A Secret that the API server refuses."""

    async def test_a_temporary_refusal_is_not_reported(self):
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(9)
            scene.server.secret_fails = Refused(503, "busy")
            await until(15)
            scene.server.secret_fails = None
            await until(60)
            assert scene.times("default") == [0]

    async def test_a_lasting_refusal_is_reported_in_the_account(self):
        scene = Scene(account(poll="1h"), channel())
        scene.server.secret_fails = Refused(500, "no KMS")
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
    async def test_retry_after_is_honoured(self, woken):
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

    async def test_a_long_retry_after_is_reported_in_the_account_at_once(self):
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

    async def test_an_unreachable_api_server_is_not_reported(self):
        """After any wake-up, the Secret and the listing come first."""
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(9)
            unreachable = ConnectionFailed("the API server is unreachable")
            scene.server.secret_fails = scene.server.patch_fails = unreachable
            await until(200)
            before = len(scene.calls)
            scene.server.secret_fails = scene.server.patch_fails = None
            scene.put(channel("new", "+79990001122"))
            await until(270)
            assert [name for _, name in scene.calls[before:]][:2] == ["secret", "listing"]
            assert [name for _, name in scene.calls[before:]].count("new") == 1
            assert scene.server.statuses["new"]["state"] == "NotAdded"


class TestKey:
    """The API key between two reads of the Secret."""

    async def test_it_is_used_for_30_s(self):
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(65)
            assert scene.times("listing") == [0, 10, 20, 30, 40, 50, 60]
            assert scene.times("secret") == [0, 30, 60]

    async def test_a_rejected_one_is_replaced_within_the_listing(self):
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(5)
            scene.server.put_key("another-key")
            scene.wazzup.rejects = {"key"}
            await until(25)
            assert scene.since(5) == ["listing", "secret", "listing", "listing"]
            assert ready(scene.account) == ("True", "UpToDate")

    async def test_a_rejected_one_that_is_still_in_the_secret_is_not_sent_twice(self):
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(5)
            scene.wazzup.rejects = {"key"}
            await until(11)
            assert scene.since(5) == ["listing", "secret", "default"]
            assert ready(scene.account) == ("False", "CredentialsInvalid")

    @pytest.mark.parametrize("requested", [True, False], ids=["request", "change"])
    async def test_it_is_read_again_when_something_changes(self, requested):
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(6)
            scene.loop.wake(requested=requested)
            await until(9)
            assert scene.times("secret") == [0, 6]

    async def test_that_of_a_deleted_secret_is_not_used_again(self):
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(5)
            scene.server.delete_key()
            scene.loop.wake(requested=True)
            for seconds in (6, 15, 29):
                await until(seconds)
                assert ready(scene.account) == ("False", "SecretNotFound")

    @pytest.mark.parametrize(
        "later",
        [{"secret": "other", "generation": 2}, {"uid": "second"}],
        ids=["Secret", "account"],
    )
    async def test_it_is_not_used_after_a_change_during_its_first_listing(self, later):
        scene = Scene(account(poll="10s"), channel())
        scene.wazzup.takes = 2
        async with scene:
            await until(1)
            scene.remove(account(poll="10s"))
            scene.put(account(poll="10s", **later))
            await until(3)
            assert scene.times("secret") == [0, 2]


class TestNoRows:
    """Listings without any row."""

    async def test_one_counts_as_none_where_channels_were_known(self):
        async with Scene(account(poll="1h"), channel()) as scene:
            await until(3599)
            scene.wazzup.rows = []
            await until(3601)
            assert ready(scene.account) == ("False", "AccountUnreachable")
            (condition, *_) = scene.account.conditions
            assert condition.message == (
                "Wazzup's listing is empty, although the account had channels. The operator keeps"
                " their states until --stale-after; check the account in Wazzup unless you deleted"
                " them."
            )
            scene.wazzup.rows = [row(state="qr")]
            await until(3603)
            assert scene.times("listing") == [0, 3600, 3602]
            assert scene.times("support") == [0, 3602]
            assert scene.channel.state == "ScanQRCode"
            assert ready(scene.account) == ("True", "UpToDate")

    async def test_they_count_from_stale_after_on(self):
        """After them, it takes the 60 s. No channel becomes Unknown."""
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(9)
            scene.wazzup.rows = []
            await until(599)
            assert ready(scene.account) == ("False", "AccountUnreachable")
            assert scene.times("listing")[-1] < 599
            await until(601)
            assert scene.times("listing")[-1] == 600
            assert ready(scene.account) == ("True", "UpToDate")
            await until(659)
            assert scene.times("support") == [0]
            await until(661)
            assert scene.times("support") == [0, 660]
            assert scene.channel.state == "NotAdded"
            await until(1500)
            assert scene.times("support") == [0, 660]

    async def test_a_short_listing_after_them_starts_the_60_s(self):
        async with Scene(account(poll="10s"), channel()) as scene:
            await until(9)
            scene.wazzup.rows = []
            await until(400)
            scene.wazzup.rows = [row("z", number="1")]
            scene.loop.wake(requested=True)
            await until(459)
            assert scene.channel.state == "Active"
            await until(461)
            assert scene.channel.state == "NotAdded"

    @pytest.mark.parametrize(("ago", "ignored"), [(30, True), (900, False)])
    async def test_a_new_process_compares_with_the_recorded_time(self, ago, ignored):
        status = ChannelStatus(observed_generation=1, state="Active", channel_id="a")
        synced = AccountStatus(last_sync_time=NOW - timedelta(seconds=ago))
        listed_before = replace(account(), status=synced)
        async with Scene(listed_before, channel(status=status)) as scene:
            scene.wazzup.rows = []
            await until(1)
            reasons = {True: "AccountUnreachable", False: "UpToDate"}
            assert ready(scene.account)[1] == reasons[ignored]
            assert scene.channel.state == "Active"

    async def test_one_counts_where_no_channel_was_known(self):
        scene = Scene(account(), channel())
        scene.wazzup.rows = []
        async with scene:
            await until(1)
            assert scene.channel.state == "NotAdded"
            assert ready(scene.account) == ("True", "UpToDate")


class TestAmbiguous:
    """Ambiguous rows of a listing."""

    async def test_they_are_logged_when_they_change(self, caplog, monkeypatch):
        ambiguous = ["a"]
        listing = Listing.of
        monkeypatch.setattr(Listing, "of", lambda rows: listing(rows, ambiguous_ids=ambiguous))
        async with Scene(account(poll="60s"), channel()):
            await until(130)
            assert len(caplog.records) == 1
            ambiguous.append("b")
            await until(250)
            assert len(caplog.records) == 2
            ambiguous.clear()
            caplog.set_level(logging.INFO)
            caplog.clear()
            await until(370)
            (logged,) = [
                each
                for each in caplog.records
                if "no row of the listing is ambiguous" in each.getMessage()
            ]
            assert logged.levelno == logging.INFO


class TestSlowWazzup:
    """Answers of Wazzup that do not come in time."""

    async def test_the_client_is_told_until_an_answer_comes(self):
        scene = Scene(account(poll="5s"), channel())
        async with scene:
            await until(4)
            scene.wazzup.fails = unreachable("Too slow.", "timeout")
            await until(8)
            scene.wazzup.fails = None
            await until(17)
            assert scene.times("listing") == [0, 5, 7, 11, 16]
            assert scene.wazzup.slow == [False, False, True, True, False]

    async def test_an_account_that_other_accounts_kept_waiting_is_not_slow(self):
        scene = Scene(account(poll="5s"), channel())
        scene.wazzup.fails = unreachable("No slot.", "busy")
        async with scene:
            await until(7)
            assert scene.wazzup.slow == [False, False, False]
            scene.wazzup.fails = unreachable("Too slow.", "timeout")
            await until(15)
            scene.wazzup.fails = unreachable("No slot.", "busy")
            await until(100)
            assert scene.wazzup.slow[3:] == [False, True, True]
