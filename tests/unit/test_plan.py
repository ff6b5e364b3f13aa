"""One pass over an account: outages, pauses, drift, the account itself, no needless writes."""

import pytest

from tests.unit.build import (
    ACCOUNT,
    GONE,
    OTHER_PHONE,
    PAUSED,
    World,
    account,
    at,
    channel,
    condition,
    finished,
    listed,
    names,
    progress,
    ready,
    row,
    unlisted,
)
from wazzup_operator.reconcile.find import find
from wazzup_operator.reconcile.finding import Paused
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelStatus

SEEN = listed(row("a"))
TROUBLES = ["SecretNotFound", "CredentialsInvalid", "AccountUnreachable"]

each_trouble = pytest.mark.parametrize("reason", TROUBLES)


def synced(status):
    found = condition(status, "Synced")
    return found.status, found.reason


def own(world):
    return world.accounts[ACCOUNT].status


class TestSpecAndStatus:
    """A status from a listing."""

    def test_the_whole_status(self):
        world = World(channel(display_name="Support", generation=3))
        world.step(listed(row("a", "qridle", name="Sales")), at(0))
        status = world.status()
        assert status.observed_generation == 3
        assert status.state == "ScanQRCode"
        assert status.upstream_state == "qridle"
        assert status.channel_id == "a"
        assert status.plain_id == "79865784457"
        assert status.display_name == "Sales"
        assert status.state_since == at(0)
        assert [each.type for each in status.conditions] == ["Ready", "Synced", "Reconciling"]
        assert all(each.observed_generation == 3 for each in status.conditions)
        assert synced(status) == ("True", "UpToDate")

    @pytest.mark.parametrize(
        ("declared", "observed", "drifts"),
        [
            ("Support", "Sales", True),
            ("Support", "support", True),
            ("Support", "Support", False),
            ("Support", None, False),
            (None, "Sales", False),
            (None, None, False),
        ],
    )
    def test_drift(self, declared, observed, drifts):
        world = World(channel(display_name=declared))
        world.step(listed(row("a", name=observed)), at(0))
        assert ready(world.status()) == ("True", "Active")
        drift = [(each.field, each.declared, each.observed) for each in world.status().drift]
        assert drift == ([("displayName", declared, observed)] if drifts else [])

    def test_a_new_name_ends_the_drift(self):
        world = World(channel(display_name="Support"))
        world.step(listed(row("a", name="Sales")), at(0))
        assert names(world.step(listed(row("a", name="Support")), at(1))) == {"support"}
        assert world.status().drift == ()
        assert world.status().state_since == at(0)

    def test_an_object_being_deleted_is_not_written(self):
        world = World(channel(deleting=True))
        assert not world.step(SEEN, at(0)).statuses

    def test_found_channels_are_recorded(self):
        world = World(
            channel(), channel("other", OTHER_PHONE), channel("p", "+1", annotations=PAUSED)
        )
        world.step(SEEN, at(0))
        assert world.found == {"uid-shop-support": "a", "uid-shop-other": None}

    def test_an_outage_records_no_found_channel(self):
        world = World(channel())
        world.step(unlisted(), at(0))
        assert world.found == {}


class TestOutage:
    """The account gives no listing."""

    @each_trouble
    @pytest.mark.parametrize("stale", [True, False], ids=["stale", "not stale"])
    def test_a_channel_never_seen_is_unknown_at_once(self, reason, stale):
        world = World(channel())
        world.step(unlisted(reason, stale=stale), at(0))
        assert world.status().state == "Unknown"
        assert ready(world.status()) == ("Unknown", reason)
        assert condition(world.status(), "Synced").status != "True"
        assert progress(world.status()) == "Reconciling"
        assert world.status().observed_generation == 1
        assert world.status().action is None

    @pytest.mark.parametrize(
        ("objects", "before"),
        [
            pytest.param([channel()], SEEN, id="Active"),
            pytest.param([channel(active=False)], SEEN, id="StillActive"),
            pytest.param([channel()], listed(row("a", "qr")), id="ScanQRCode"),
            pytest.param([channel()], listed(row("a", "blocked")), id="Blocked"),
            pytest.param([channel(active=False)], listed(row("a", "qr")), id="NotConnected"),
            pytest.param([channel()], listed(), id="NotAdded"),
            pytest.param([channel()], listed(row("a"), row("b")), id="AmbiguousChannel"),
            pytest.param(
                [channel(channel_id="a")],
                listed(row("a", number=OTHER_PHONE)),
                id="ChannelMismatch",
            ),
            pytest.param([channel("older"), channel(created=1)], SEEN, id="DuplicatePhoneNumber"),
            pytest.param([channel(display_name="x")], listed(row("a", name="Sales")), id="drift"),
        ],
    )
    def test_a_short_outage_writes_nothing_to_channels(self, objects, before):
        world = World(*objects)
        world.step(before, at(0))
        statuses = world.status()
        for minute in (1, 5, 10):
            assert not world.step(unlisted(), at(minute)).statuses
        assert world.status() == statuses
        assert not world.step(before, at(11)).statuses

    @pytest.mark.parametrize(("created", "article"), [(5, "An older"), (0, "A")])
    def test_a_short_outage_writes_nothing_to_a_duplicate_of_another_account(
        self, created, article
    ):
        far = NamespacedName("elsewhere", "default")
        world = World(channel(created=created), account(namespace="elsewhere"))
        world.put(channel("theirs", namespace="elsewhere"))
        world.step(SEEN, at(0), far)
        world.step(SEEN, at(0))
        assert ready(world.status()) == ("False", "DuplicatePhoneNumber")
        assert condition(world.status(), "Ready").message == (
            f"{article} WazzupChannel in another namespace declares the same channel. Delete one"
            " of the two objects; this deletes nothing in Wazzup."
        )
        assert not world.step(unlisted(), at(1)).statuses

    @each_trouble
    def test_a_short_outage_marks_the_account_at_once(self, reason):
        world = World(channel())
        world.step(SEEN, at(0), last_sync=at(0))
        before = own(world)
        assert world.step(unlisted(reason), at(1)).account_status
        assert ready(own(world)) == ("False", reason)
        assert f"{reason} it is." in condition(own(world), "Ready").message
        assert own(world).channels == before.channels
        assert own(world).unmanaged == before.unmanaged
        assert own(world).last_sync_time == at(0)

    @each_trouble
    def test_a_long_outage_turns_channels_unknown(self, reason):
        world = World(channel(display_name="Support"))
        world.step(listed(row("a", "qr", name="Sales")), at(0))
        world.step(unlisted(reason, stale=True), at(10))
        status = world.status()
        assert status.state == "Unknown"
        assert ready(status) == ("Unknown", reason)
        assert synced(status) == ("False", reason)
        assert status.channel_id == "a"
        assert status.action is None
        assert status.state_since == at(10)
        assert "WazzupAccount" in condition(status, "Ready").message

    def test_channels_recover_after_a_long_outage(self):
        world = World(channel())
        world.step(SEEN, at(0))
        world.step(unlisted(stale=True), at(10))
        world.step(SEEN, at(20))
        assert ready(world.status()) == ("True", "Active")
        assert synced(world.status()) == ("True", "UpToDate")

    def test_a_deleted_account_turns_channels_unknown_at_once(self):
        world = World(channel())
        world.step(SEEN, at(0))
        world.accounts.clear()
        planned = world.step(GONE, at(1))
        assert planned.account_status is None
        assert world.status().state == "Unknown"
        assert ready(world.status()) == ("Unknown", "AccountNotFound")
        assert world.status().channel_id == "a"
        assert '"default"' in condition(world.status(), "Ready").message
        assert not world.step(GONE, at(2)).statuses

    def test_an_account_that_never_existed(self):
        world = World(channel(account="typo"))
        world.step(GONE, at(0), NamespacedName("shop", "typo"))
        assert ready(world.status()) == ("Unknown", "AccountNotFound")
        assert world.status().state == "Unknown"
        assert '"typo"' in condition(world.status(), "Ready").message

    def test_a_changed_spec_is_unknown_until_the_next_listing(self):
        world = World(channel())
        world.step(SEEN, at(0))
        world.edit(active=False)
        assert names(world.step(unlisted(), at(1))) == {"support"}
        assert world.status().observed_generation == 2
        assert all(each.observed_generation == 2 for each in world.status().conditions)
        assert ready(world.status()) == ("Unknown", "AccountUnreachable")
        assert world.status().state == "Active"
        assert world.status().channel_id == "a"
        assert world.status().action is None
        assert not world.step(unlisted(), at(2)).statuses
        world.step(SEEN, at(3))
        assert ready(world.status()) == ("False", "StillActive")

    def test_the_reason_changes_while_the_state_is_unknown(self):
        world = World(channel())
        world.step(unlisted("SecretNotFound"), at(0))
        world.step(unlisted("CredentialsInvalid"), at(1))
        assert ready(world.status()) == ("Unknown", "CredentialsInvalid")

    def test_a_duplicate_whose_keeper_is_deleted_in_an_outage(self):
        world = World(channel("older"), channel(created=1))
        world.step(SEEN, at(0))
        world.remove("older")
        world.step(unlisted(), at(1))
        assert ready(world.status()) == ("Unknown", "AccountUnreachable")
        assert world.status().action is None

    def test_the_message_names_the_account_and_its_namespace(self):
        world = World(channel())
        world.step(unlisted(), at(0))
        assert condition(world.status(), "Ready").message == (
            'The operator cannot list the WazzupAccount "default", so the state of this channel is'
            " unknown. Run: kubectl -n shop describe wzacc default"
        )
        world.step(unlisted("AccountNotFound", stale=True), at(1))
        assert condition(world.status(), "Ready").message == (
            'The WazzupAccount "default" does not exist in this namespace. Create it, or correct'
            " spec.accountRef."
        )

    @each_trouble
    def test_a_duplicate_that_was_never_listed_is_not_synced(self, reason):
        world = World(channel("old"), channel("new", created=1))
        world.step(unlisted(reason, stale=True), at(0))
        assert ready(world.status("new")) == ("False", "DuplicatePhoneNumber")
        assert synced(world.status("new")) == ("False", reason)
        assert names(world.step(unlisted(reason, stale=True), at(1))) == set()
        world.step(SEEN, at(2))
        assert synced(world.status("new")) == ("True", "UpToDate")

    @pytest.mark.parametrize("stale", [True, False], ids=["stale", "not stale"])
    def test_a_duplicate_is_synced_until_the_last_listing_is_stale(self, stale):
        world = World(channel("old"), channel("new", created=1))
        world.step(SEEN, at(0))
        world.step(unlisted(stale=stale), at(1))
        expected = ("False", "AccountUnreachable") if stale else ("True", "UpToDate")
        assert synced(world.status("new")) == expected

    def test_a_duplicate_whose_pause_ends_in_an_outage(self):
        world = World(channel("old"), channel("new", created=1))
        world.step(SEEN, at(0))
        world.annotate(PAUSED, "new")
        world.step(SEEN, at(1))
        world.annotate({}, "new")
        world.step(unlisted(), at(2))
        assert ready(world.status("new")) == ("False", "DuplicatePhoneNumber")
        assert synced(world.status("new")) == ("Unknown", "AccountUnreachable")


class TestPause:
    """The annotation wazzup.dev/paused."""

    @pytest.mark.parametrize("value", ["false", "", "True", "yes", "1"])
    def test_only_true_pauses(self, value):
        world = World(channel(annotations={"wazzup.dev/paused": value}))
        world.step(SEEN, at(0))
        assert ready(world.status()) == ("True", "Active")

    @pytest.mark.parametrize(
        "observation",
        [SEEN, listed(), unlisted(), unlisted(stale=True), listed(row("a"), row("b"))],
    )
    def test_a_paused_object(self, observation):
        world = World(channel())
        world.step(listed(row("a", "qr")), at(0))
        world.edit(display_name="Support")
        world.annotate(PAUSED)
        world.step(observation, at(1))
        status = world.status()
        assert ready(status) == ("Unknown", "Paused")
        assert progress(status) is None
        assert status.observed_generation == 2
        assert all(each.observed_generation == 2 for each in status.conditions)
        assert (status.state, status.channel_id) == ("ScanQRCode", "a")
        assert status.state_since == at(0)
        assert not world.step(observation, at(1000)).statuses

    def test_a_paused_object_without_its_account(self):
        world = World(channel(annotations=PAUSED))
        world.accounts.clear()
        world.step(GONE, at(0))
        assert ready(world.status()) == ("Unknown", "Paused")

    def test_a_paused_new_object(self):
        world = World(channel(annotations=PAUSED))
        world.step(SEEN, at(0))
        assert ready(world.status()) == ("Unknown", "Paused")
        assert world.status().observed_generation == 1
        assert world.status().channel_id is None

    def test_a_paused_account(self):
        world = World(channel(), channel("other", OTHER_PHONE))
        world.step(SEEN, at(0), last_sync=at(0))
        before = own(world)
        paused = account(annotations=PAUSED, generation=2)
        world.put(type(paused)(metadata=paused.metadata, spec=paused.spec, status=before))
        planned = world.step(None, at(1), last_sync=at(0))
        assert names(planned) == {"support", "other"}
        assert ready(world.status()) == ready(world.status("other")) == ("Unknown", "Paused")
        assert world.status().channel_id == "a"
        assert ready(own(world)) == ("Unknown", "Paused")
        assert progress(own(world)) is None
        assert own(world).observed_generation == 2
        assert own(world).unmanaged == before.unmanaged
        assert own(world).channels.observed == 1
        findings = finished(find(world.view(None, at(1)))).findings
        assert set(findings) == {Paused()}, "no claim changes"
        assert planned.due is None
        again = world.step(None, at(1000), last_sync=at(0))
        assert not again.statuses
        assert again.account_status is None

    @pytest.mark.parametrize("observation", [SEEN, unlisted()], ids=["listing", "outage"])
    def test_the_end_of_a_pause(self, observation):
        world = World(channel())
        world.step(SEEN, at(0))
        world.annotate(PAUSED)
        world.step(SEEN, at(1))
        world.annotate({})
        world.step(observation, at(2))
        assert ready(world.status()) == (
            ("True", "Active") if observation is SEEN else ("Unknown", "AccountUnreachable")
        )
        assert world.status().channel_id == "a"


class TestAccount:
    """The account's own status."""

    def test_the_whole_status(self):
        world = World(channel(), channel("other", OTHER_PHONE))
        world.put(account(generation=4))
        observation = listed(
            row("a"), row("b", "qr", OTHER_PHONE), row("c", "qridle", "1", "wapi", "Old")
        )
        world.step(observation, at(0), last_sync=at(0))
        status = own(world)
        assert status.observed_generation == 4
        assert ready(status) == ("True", "UpToDate")
        assert [each.type for each in status.conditions] == ["Ready"]
        counts = status.channels
        assert (counts.declared, counts.observed, counts.ready) == (2, 3, 1)
        assert status.last_sync_time == at(0)
        (unmanaged,) = status.unmanaged
        assert unmanaged.channel_id == "c"
        assert unmanaged.transport == "wapi"
        assert unmanaged.plain_id == "1"
        assert unmanaged.name == "Old"
        assert unmanaged.state == "ScanQRCode"

    def test_no_counts_before_the_first_listing(self):
        world = World(channel())
        world.step(unlisted(), at(0))
        assert own(world).channels is None
        assert own(world).last_sync_time is None
        assert own(world).observed_generation == 1

    @pytest.mark.parametrize(
        ("objects", "rows", "unmanaged"),
        [
            pytest.param([], [row("a"), row("b", number="1")], ["a", "b"], id="nothing declared"),
            pytest.param([channel()], [row("a")], [], id="declared"),
            pytest.param([channel(active=False)], [row("a", "disabled")], [], id="declared off"),
            pytest.param([channel()], [row("a"), row("b")], [], id="ambiguous"),
            pytest.param([channel(annotations=PAUSED)], [row("a")], [], id="paused"),
            pytest.param([channel()], [row("a", transport="wapi")], ["a"], id="another transport"),
            pytest.param([channel()], [row("a", number=None)], ["a"], id="no plainId"),
            pytest.param(
                [channel(channel_id="a")], [row("a", number=None)], [], id="no plainId, declared"
            ),
            pytest.param(
                [channel(number="+525512345678")],
                [row("a", number="5215512345678")],
                [],
                id="another spelling",
            ),
        ],
    )
    def test_unmanaged(self, objects, rows, unmanaged):
        world = World(*objects)
        world.step(listed(*rows), at(0))
        assert [each.channel_id for each in own(world).unmanaged] == unmanaged

    def test_a_channel_that_an_object_keeps_is_not_unmanaged(self):
        world = World(channel(status=ChannelStatus(state="Active", channel_id="a")))
        seen = listed(row("a", "qr", number=None), ambiguous_numbers=[("whatsapp", "79865784457")])
        world.step(seen, at(0))
        assert world.status().channel_id == "a"
        assert own(world).unmanaged == ()

    @pytest.mark.parametrize("count", [99, 100, 101, 250])
    def test_unmanaged_is_limited_to_a_hundred(self, count):
        world = World()
        world.step(listed(*(row(f"{n:03}", number=str(n)) for n in range(count))), at(0))
        ids = [each.channel_id for each in own(world).unmanaged]
        assert ids == [f"{n:03}" for n in range(min(count, 100))]
        assert own(world).channels.observed == count

    def test_a_released_channel_is_unmanaged_at_once(self):
        world = World(channel(status=ChannelStatus(state="Active", channel_id="a")))
        world.step(listed(row("a", number=OTHER_PHONE)), at(1))
        assert world.status().state == "NotAdded"
        assert [each.channel_id for each in own(world).unmanaged] == ["a"]

    def test_unmanaged_stays_while_ids_are_unconfirmed(self):
        world = World(channel())
        world.step(listed(row("a"), row("b", number="1")), at(0))
        before = own(world)
        planned = world.step(listed(row("a"), unconfirmed=["b"]), at(1))
        assert planned.account_status is None
        assert own(world) == before

    @pytest.mark.parametrize(
        ("minutes", "written"),
        [(0, False), (1, False), (4.9, False), (5, True), (5.1, True), (60, True), (-60, True)],
    )
    def test_last_sync_time_alone_is_written_every_five_minutes(self, minutes, written):
        world = World(channel())
        world.step(SEEN, at(0), last_sync=at(0))
        planned = world.step(SEEN, at(minutes), last_sync=at(minutes))
        assert not planned.statuses
        assert bool(planned.account_status) == written
        assert own(world).last_sync_time == (at(minutes) if written else at(0))

    def test_last_sync_time_is_written_with_other_changes(self):
        world = World()
        world.step(listed(), at(0), last_sync=at(0))
        world.step(SEEN, at(1), last_sync=at(1))
        assert own(world).last_sync_time == at(1)

    def test_a_first_listing_is_written_at_once(self):
        world = World()
        world.step(unlisted(), at(0))
        world.step(listed(), at(1), last_sync=at(1))
        assert own(world).last_sync_time == at(1)

    def test_a_new_process_without_a_listing_keeps_the_time(self):
        world = World()
        world.step(listed(), at(0), last_sync=at(0))
        world.step(unlisted(), at(30))
        assert own(world).last_sync_time == at(0)

    def test_ready_counts_follow_the_channels(self):
        world = World(channel(), channel("other", OTHER_PHONE, active=False))
        world.step(listed(row("a"), row("b", "qr", OTHER_PHONE)), at(0))
        assert own(world).channels.ready == 2
        world.step(unlisted(stale=True), at(20))
        assert own(world).channels.ready == 0
        assert own(world).channels.observed == 2


def test_a_thousand_channels_of_one_number():
    world = World(channel(), channel("other", OTHER_PHONE))
    rows = [row(f"00000000-0000-4000-8000-{n:012}") for n in range(1000)]
    world.step(listed(*rows, row("b", number=OTHER_PHONE)), at(0))
    assert ready(world.status()) == ("False", "AmbiguousChannel")
    assert ready(world.status("other")) == ("True", "Active")


def test_a_state_of_a_newer_operator_is_tolerated():
    world = World(channel(status=ChannelStatus(state="Melting", channel_id="a")))
    world.step(listed(unconfirmed=["a"]), at(0))
    assert world.status().state == "Melting"
    world.step(SEEN, at(1))
    assert ready(world.status()) == ("True", "Active")
