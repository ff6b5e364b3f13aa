"""Which object keeps a channel that several declare."""

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
    listed,
    names,
    ready,
    row,
    unlisted,
)
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelStatus

FAR = NamespacedName("elsewhere", "default")
SIBLING = NamespacedName("shop", "second")
SEEN = listed(row("a"))
DUPLICATE = ("False", "DuplicatePhoneNumber")
FINE = ("True", "Active")


def message(world, *name):
    return condition(world.status(*name), "Ready").message


@pytest.mark.parametrize(
    ("one", "other", "keeper"),
    [
        pytest.param({"created": 0}, {"created": 1}, "one", id="the older"),
        pytest.param({"created": 1}, {"created": 0}, "other", id="the older, swapped"),
        pytest.param({"uid": "1"}, {"uid": "2"}, "one", id="the same time: the first by name"),
        pytest.param({"uid": "2"}, {"uid": "1"}, "one", id="the same time, other uids"),
        pytest.param(
            {"created": 0, "deleting": True}, {"created": 1}, "other", id="being deleted yields"
        ),
        pytest.param({"created": 0, "active": False}, {"created": 1}, "one", id="off or on"),
    ],
)
def test_who_keeps_the_channel_in_one_account(one, other, keeper):
    world = World(channel("one", **one), channel("other", **other))
    world.step(SEEN, at(0))
    duplicate = "other" if keeper == "one" else "one"
    assert world.status(keeper).channel_id == "a"
    assert world.status(duplicate).channel_id is None
    if not world.get(duplicate).metadata.deleting:
        assert ready(world.status(duplicate)) == DUPLICATE
        assert world.status(duplicate).state == "Unknown"
        assert world.status(duplicate).upstream_state is None
        older = "older " if "created" in {**one, **other} else ""
        assert message(world, duplicate).startswith(f'The {older}WazzupChannel "{keeper}" declares')
        assert world.status(duplicate).action


def test_of_objects_of_one_second_the_one_with_the_channel_on_record_keeps_it():
    """As after a restore with statuses."""
    recorded = ChannelStatus(account="default", channel_id="a", state="Active")
    world = World(channel("one"), channel("other", status=recorded))
    world.step(SEEN, at(0))
    assert ready(world.status("other")) == FINE
    assert ready(world.status("one")) == DUPLICATE
    world.put(channel("one", created=-1))
    world.step(SEEN, at(1))
    assert ready(world.status("one")) == FINE


def test_the_oldest_of_three_keeps_the_channel():
    world = World(*(channel(f"c{age}", created=-age) for age in range(3)))
    world.step(SEEN, at(0))
    assert [ready(world.status(f"c{age}")) for age in range(3)] == [DUPLICATE, DUPLICATE, FINE]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({}, {"transport": "wapi"}, id="two transports"),
        pytest.param({}, {"number": OTHER_PHONE}, id="two numbers"),
    ],
)
def test_two_transports_or_numbers_are_two_channels(one, other):
    world = World(channel("one", **one), channel("other", **other))
    observation = listed(row("a"), row("b", transport="wapi"), row("c", number=OTHER_PHONE))
    world.step(observation, at(0))
    assert ready(world.status("one")) == ready(world.status("other")) == FINE


def test_two_spellings_of_one_number_are_duplicates():
    world = World(channel("one", "+5215512345678"), channel("other", "+525512345678", created=1))
    world.step(listed(row("a", number="5215512345678")), at(0))
    assert ready(world.status("one")) == FINE
    assert ready(world.status("other")) == DUPLICATE


@pytest.mark.parametrize("observation", [listed(), SEEN, unlisted(), unlisted(stale=True)])
def test_two_objects_of_one_number_under_any_observation(observation):
    world = World(channel("one"), channel("other", created=1))
    world.step(observation, at(0))
    assert ready(world.status("other")) == DUPLICATE
    assert ready(world.status("one")) != DUPLICATE


def test_a_missing_account_comes_before_a_duplicate():
    world = World(channel("one"), channel("other", created=1))
    world.accounts.clear()
    world.step(GONE, at(0))
    assert ready(world.status("other")) == ("Unknown", "AccountNotFound")


def test_the_keeper_is_gone():
    world = World(channel("one"), channel("other", created=1))
    world.step(SEEN, at(0))
    world.remove("one")
    world.step(SEEN, at(1))
    assert ready(world.status("other")) == FINE
    assert world.status("other").channel_id == "a"


def test_the_keeper_is_being_deleted():
    world = World(channel("one"), channel("other", created=1))
    world.step(SEEN, at(0))
    world.put(channel("one", deleting=True))
    assert names(world.step(SEEN, at(1))) == {"other"}
    assert ready(world.status("other")) == FINE


def test_an_older_object_takes_over():
    world = World(channel("young", created=5))
    world.step(SEEN, at(0))
    world.put(channel("old"))
    world.step(SEEN, at(1))
    assert ready(world.status("young")) == DUPLICATE
    assert world.status("young").channel_id is None
    assert world.status("old").channel_id == "a"


@pytest.mark.parametrize("recorded", [True, False], ids=["seen before", "never seen"])
def test_a_paused_object_keeps_its_claim(recorded):
    world = World(channel("one"), channel("other", created=1))
    if recorded:
        world.step(SEEN, at(0))
    world.annotate(PAUSED, "one")
    world.step(SEEN, at(1))
    assert ready(world.status("one")) == ("Unknown", "Paused")
    assert world.status("one").channel_id == ("a" if recorded else None)
    assert ready(world.status("other")) == DUPLICATE


def test_a_paused_duplicate_stays_paused():
    world = World(channel("one"), channel("other", created=1, annotations=PAUSED))
    world.step(SEEN, at(0))
    assert ready(world.status("other")) == ("Unknown", "Paused")


@pytest.mark.parametrize("order", [("old", "young"), ("young", "old")])
def test_the_older_keeps_a_channel_without_a_number_that_two_declare(order):
    objects = {
        "old": channel("old", channel_id="a"),
        "young": channel("young", OTHER_PHONE, channel_id="a", created=1),
    }
    world = World(*(objects[name] for name in order))
    world.step(listed(row("a", number=None)), at(0))
    assert ready(world.status("old")) == FINE
    assert ready(world.status("young")) == DUPLICATE


def test_objects_that_claim_no_channel_are_no_duplicates_in_an_outage():
    world = World(channel(created=1), account(namespace="elsewhere"))
    world.put(channel("theirs", OTHER_PHONE, namespace="elsewhere"))
    for key in (FAR, ACCOUNT):
        world.step(unlisted(), at(0), key)
    assert ready(world.status()) == ("Unknown", "AccountUnreachable")


def test_a_duplicate_of_a_channel_without_a_number_settles():
    """One declares the channel by its id, the other has recorded it."""
    recorded = ChannelStatus(state="Active", channel_id="a")
    world = World(
        channel("declares", channel_id="a"),
        channel("recorded", OTHER_PHONE, created=1, status=recorded),
    )
    observation = listed(row("a", number=None))
    world.step(observation, at(0))
    assert ready(world.status("declares")) == FINE
    assert ready(world.status("recorded")) == ("False", "DuplicatePhoneNumber")
    world.step(observation, at(1))
    assert ready(world.status("recorded")) == ("False", "NotAdded")
    assert not world.step(observation, at(2)).statuses
    assert not world.step(unlisted(), at(3)).statuses


class TestAcrossAccounts:
    """Two keys of one Wazzup account: the same channel id is listed twice."""

    def world(self, key=FAR, **second):
        namespace, name = key
        return World(
            channel("mine", created=5),
            account(name, namespace=namespace),
            channel("theirs", namespace=namespace, account=name, **second),
        )

    def settle(self, world, minute=0, key=FAR, observation=SEEN):
        for _ in range(2):
            world.step(observation, at(minute))
            world.step(observation, at(minute), key)

    def test_the_older_keeps_the_channel_and_is_not_named(self):
        world = self.world()
        self.settle(world)
        assert ready(world.status("theirs", "elsewhere")) == FINE
        assert ready(world.status("mine")) == DUPLICATE
        assert world.status("mine").state == "Unknown"
        assert world.status("mine").channel_id is None
        for part in ("theirs", "elsewhere"):
            assert part not in str(world.status("mine"))

    def test_a_keeper_of_the_same_namespace_is_named(self):
        world = self.world(SIBLING)
        self.settle(world, key=SIBLING)
        assert ready(world.status("mine")) == DUPLICATE
        assert '"theirs"' in message(world, "mine")

    def test_the_order_of_passes_does_not_matter(self):
        world = self.world()
        world.step(SEEN, at(0), FAR)
        world.step(SEEN, at(0))
        assert ready(world.status("theirs", "elsewhere")) == FINE
        assert ready(world.status("mine")) == DUPLICATE

    def test_two_wazzup_accounts_have_two_channels(self):
        world = self.world()
        world.step(SEEN, at(0))
        world.step(listed(row("b", "qr")), at(0), FAR)
        world.step(SEEN, at(1))
        assert ready(world.status("mine")) == FINE
        assert ready(world.status("theirs", "elsewhere")) == ("False", "ScanQRCode")

    def test_the_keeper_is_gone(self):
        world = self.world()
        self.settle(world)
        world.remove("theirs", "elsewhere")
        world.step(SEEN, at(1))
        assert ready(world.status("mine")) == FINE
        assert world.status("mine").channel_id == "a"

    def test_an_object_being_deleted_gives_its_channel_up(self):
        world = self.world(deleting=True)
        self.settle(world)
        assert ready(world.status("mine")) == FINE

    def test_the_account_of_the_keeper_is_deleted_and_recreated(self):
        world = self.world()
        self.settle(world)
        gone = world.accounts.pop(FAR)
        world.step(GONE, at(1), FAR)
        world.step(SEEN, at(1))
        assert ready(world.status("theirs", "elsewhere")) == ("Unknown", "AccountNotFound")
        assert ready(world.status("mine")) == FINE
        world.put(gone)
        self.settle(world, 2)
        assert ready(world.status("theirs", "elsewhere")) == FINE
        assert ready(world.status("mine")) == DUPLICATE

    def test_a_paused_keeper_keeps_its_claim(self):
        world = self.world()
        self.settle(world)
        old = channel(
            "theirs",
            namespace="elsewhere",
            annotations=PAUSED,
            status=world.status("theirs", "elsewhere"),
        )
        world.put(old)
        self.settle(world, 1)
        assert ready(world.status("theirs", "elsewhere")) == ("Unknown", "Paused")
        assert ready(world.status("mine")) == DUPLICATE

    def test_a_restart_during_an_outage_of_the_keeper(self):
        world = self.world()
        self.settle(world)
        world.found.clear()
        world.step(SEEN, at(1))
        assert ready(world.status("mine")) == DUPLICATE

    def test_replaces_ignores_other_namespaces(self):
        world = self.world()
        world.annotate({"wazzup.dev/replaces": "theirs"}, "mine")
        self.settle(world)
        assert condition(world.status("mine"), "Stalled")

    def test_a_duplicate_is_not_unmanaged_anywhere(self):
        world = self.world()
        self.settle(world)
        assert world.accounts[ACCOUNT].status.unmanaged == ()
        assert world.accounts[FAR].status.unmanaged == ()
