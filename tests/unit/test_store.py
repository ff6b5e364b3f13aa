"""Store: content, wake-ups and claims."""

import asyncio
from dataclasses import replace

import pytest

from tests.unit.build import account, body, channel
from wazzup_operator.controller.store import STEP, Store
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelStatus
from wazzup_operator.resources.codec import CHANNELS

DEFAULT = NamespacedName("shop", "default")
SECOND = NamespacedName("shop", "second")
FAR = NamespacedName("elsewhere", "default")
NOBODY = NamespacedName("", "")
PAUSED = {"wazzup.dev/paused": "true"}
REQUEST = {"wazzup.dev/requested-at": "now"}
ACTIVE = ChannelStatus(observed_generation=1, state="Active", channel_id="a")


ACCOUNTS = [
    account(name, namespace=namespace)
    for namespace in ("shop", "elsewhere")
    for name in ("default", "second")
]


class Recorder:
    """A Store that records its wake-ups in `calls`."""

    def __init__(self, *objects):
        self.calls = []
        self.store = Store(lambda key, requested: self.calls.append((key, requested)))
        self.add(*objects)

    def add(self, *objects):
        """Store these objects without recording the wake-ups."""
        for each in objects:
            self.table(each).upsert(each)
        self.calls.clear()

    def table(self, object_):
        is_channel = hasattr(object_, "account_key")
        return self.store.channels if is_channel else self.store.accounts

    def upsert(self, object_):
        self.calls.clear()
        self.table(object_).upsert(object_)
        return sorted(set(self.calls))

    def remove(self, object_, uid=None):
        self.calls.clear()
        self.table(object_).remove(object_.metadata.key, uid or object_.metadata.uid)
        return sorted(set(self.calls))

    def names(self):
        return sorted(each.metadata.name for each in self.store.all_channels())


def woken(*keys, requested=False):
    return sorted((key, requested) for key in keys)


class TestContent:
    """Objects and the index by account."""

    def test_objects_by_account(self):
        recorder = Recorder(channel("a"), channel("b"), channel("c", account="second"))
        assert {each.metadata.name for each in recorder.store.channels_of(DEFAULT)} == {"a", "b"}
        assert {each.metadata.name for each in recorder.store.channels_of(SECOND)} == {"c"}
        assert recorder.store.channels_of(FAR) == []

    def test_accounts_that_exist_or_are_referenced(self):
        recorder = Recorder(channel("a", account="second"), account())
        assert recorder.store.account_keys() == {DEFAULT, SECOND}
        recorder.remove(channel("a", account="second"))
        recorder.remove(account())
        assert recorder.store.account_keys() == set()

    @pytest.mark.parametrize(
        ("version", "kept"), [(1, "new"), (5, "new"), (9, "new"), (10, "new"), (11, "later")]
    )
    def test_an_older_version_is_ignored(self, version, kept):
        recorder = Recorder(channel(display_name="new", version=10))
        calls = recorder.upsert(channel(display_name="later", version=version, generation=2))
        (present,) = recorder.store.all_channels()
        assert present.spec.display_name == kept
        assert calls == (woken(DEFAULT) if kept == "later" else [])

    def test_the_same_name_with_another_uid_is_another_object(self):
        recorder = Recorder(channel(uid="old", version=10, status=ACTIVE))
        assert recorder.upsert(channel(uid="new", version=11)) == woken(DEFAULT)
        (present,) = recorder.store.all_channels()
        assert present.metadata.uid == "new"
        assert recorder.store.rivals("a", NOBODY) == []
        assert recorder.store.channels_of(DEFAULT) == [present]

    def test_the_same_name_in_another_account(self):
        recorder = Recorder(channel(uid="old", account="second"))
        assert recorder.upsert(channel(uid="new")) == woken(DEFAULT, SECOND)
        assert recorder.store.channels_of(SECOND) == []

    def test_only_an_object_with_the_same_uid_is_removed(self):
        recorder = Recorder(channel(uid="new"))
        assert recorder.remove(channel(), uid="old") == []
        assert recorder.names() == ["support"]
        assert recorder.remove(channel(), uid="new") == woken(DEFAULT)
        assert recorder.names() == []
        assert recorder.remove(channel(), uid="new") == []


class TestReplace:
    """A new list, and answers to writes."""

    async def test_objects_missing_from_the_list_are_removed(self):
        recorder = Recorder(channel("a"), channel("b"), channel("c"))
        await recorder.store.channels.scope(None).replace([channel("b"), channel("d")])
        assert recorder.names() == ["b", "d"]
        assert set(recorder.calls) == {(DEFAULT, False)}

    async def test_an_unchanged_list_wakes_nobody(self):
        recorder = Recorder(channel("a"), channel("b"))
        await recorder.store.channels.scope(None).replace([channel("a"), channel("b")])
        assert recorder.calls == []

    async def test_other_tasks_run_while_a_long_list_is_stored_or_removed(self):
        recorder = Recorder()
        many = [channel(f"c{number}") for number in range(3 * STEP)]
        for objects in (many, []):
            turns = 0
            replacing = asyncio.create_task(recorder.store.channels.scope(None).replace(objects))
            while not replacing.done():
                turns += 1
                await asyncio.sleep(0)
            assert turns >= 5
            assert len(recorder.names()) == len(objects)

    async def test_a_list_of_one_namespace_leaves_others_alone(self):
        recorder = Recorder(channel("a"), channel("b", namespace="elsewhere"))
        await recorder.store.channels.scope("shop").replace([])
        assert recorder.names() == ["b"]

    async def test_a_recreated_object_replaces_the_old_one(self):
        recorder = Recorder(channel(uid="old", version=10, status=ACTIVE))
        await recorder.store.channels.scope(None).replace([channel(uid="new", version=12)])
        (present,) = recorder.store.all_channels()
        assert present.metadata.uid == "new"
        assert recorder.store.rivals("a", NOBODY) == []

    async def test_a_list_with_older_versions_is_stored(self):
        recorder = Recorder(channel(version=100, status=ACTIVE))
        await recorder.store.channels.scope(None).replace([channel(version=40)])
        recorder.upsert(channel(version=41, display_name="newer"))
        (present,) = recorder.store.all_channels()
        assert present.spec.display_name == "newer"

    @pytest.mark.parametrize("make", [channel, account])
    async def test_a_list_with_an_older_version_wakes(self, make):
        """Etcd was restored: the status went back, and a listing may be an hour away."""
        recorder = Recorder(make(version=50))
        await recorder.table(make()).scope(None).replace([make(version=40)])
        assert recorder.calls == [(DEFAULT, False)]

    def test_the_answer_to_a_write_does_not_restore_a_deleted_object(self):
        recorder = Recorder(channel(version=1))
        recorder.store.channels.remove(NamespacedName("shop", "support"), "uid-shop-support")
        recorder.store.channels.update(channel(version=2, status=ACTIVE))
        assert list(recorder.store.all_channels()) == []

    def test_the_answer_to_a_write_does_not_replace_a_recreated_object(self):
        recorder = Recorder(channel(version=1))
        recorder.store.channels.remove(NamespacedName("shop", "support"), "uid-shop-support")
        another = channel(version=3, uid="another")
        recorder.upsert(another)
        recorder.store.channels.update(channel(version=4, status=ACTIVE))
        assert list(recorder.store.all_channels()) == [another]

    async def test_accounts(self):
        recorder = Recorder(account(), account("second"))
        await recorder.store.accounts.scope(None).replace([account("second")])
        assert set(recorder.calls) == {(DEFAULT, False)}
        assert recorder.store.account_keys() == {SECOND}


class TestWakes:
    """Which changes wake which account."""

    @pytest.mark.parametrize(
        "new",
        [
            pytest.param(channel(version=2, generation=2, active=False), id="spec"),
            pytest.param(channel(version=2, deleting=True), id="deletion"),
            pytest.param(channel(version=2, annotations=PAUSED), id="pause"),
            pytest.param(
                channel(version=2, annotations={"wazzup.dev/replaces": "x"}), id="replaces"
            ),
        ],
    )
    def test_changes_that_wake(self, new):
        recorder = Recorder(channel())
        assert recorder.upsert(new) == woken(DEFAULT)

    @pytest.mark.parametrize(
        "new",
        [
            pytest.param(channel(version=2), id="version only"),
            pytest.param(channel(version=2, status=ACTIVE), id="status"),
            pytest.param(
                CHANNELS.decode(body(channel(version=2, annotations={"team": "x"}))),
                id="foreign annotations",
            ),
        ],
    )
    def test_changes_that_do_not_wake(self, new):
        recorder = Recorder(channel())
        assert recorder.upsert(new) == []

    def test_a_new_object_wakes_its_account(self):
        assert Recorder().upsert(channel(account="second")) == woken(SECOND)

    def test_a_changed_spec_with_a_status_wakes(self):
        recorder = Recorder(channel())
        assert recorder.upsert(channel(version=2, generation=2, status=ACTIVE)) == woken(DEFAULT)

    @pytest.mark.parametrize("make", [channel, account], ids=["channel", "account"])
    def test_requested_at_requests_a_listing(self, make):
        name = "default"
        recorder = Recorder(make(name))
        requested = make(name, version=2, annotations=REQUEST)
        assert recorder.upsert(requested) == woken(DEFAULT, requested=True)
        assert recorder.upsert(replace(requested, metadata=replace(requested.metadata))) == []
        again = make(name, version=3, annotations={"wazzup.dev/requested-at": "later"})
        assert recorder.upsert(again) == woken(DEFAULT, requested=True)
        assert recorder.upsert(make(name, version=4)) == []

    def test_an_unchanged_request_is_not_repeated(self):
        recorder = Recorder(channel(annotations=REQUEST))
        assert recorder.upsert(channel(version=2, generation=2, annotations=REQUEST)) == woken(
            DEFAULT
        )

    def test_a_new_object_with_a_request(self):
        calls = Recorder().upsert(channel(annotations=REQUEST))
        assert sorted(calls) == [(DEFAULT, False), (DEFAULT, True)]

    @pytest.mark.parametrize(
        "new",
        [
            account(version=2, generation=2),
            account(version=2, annotations=PAUSED),
            account(version=2, deleting=True),
        ],
        ids=["spec", "pause", "deletion"],
    )
    def test_a_changed_account(self, new):
        recorder = Recorder(account())
        assert recorder.upsert(new) == woken(DEFAULT)

    def test_a_created_and_deleted_account(self):
        recorder = Recorder(channel())
        assert recorder.upsert(account()) == woken(DEFAULT)
        assert recorder.remove(account()) == woken(DEFAULT)


class TestClaims:
    """Objects of several accounts that found one channel."""

    MINE = channel("mine", created=5)
    THEIRS = channel("theirs", namespace="elsewhere")

    def both(self):
        recorder = Recorder(*ACCOUNTS, self.MINE, self.THEIRS)
        recorder.store.record_found(self.MINE, "a")
        recorder.store.record_found(self.THEIRS, "a")
        recorder.calls.clear()
        return recorder

    def claimants(self, recorder, channel_id="a"):
        return {each.metadata.name for each in recorder.store.rivals(channel_id, NOBODY)}

    def test_found_channels_are_claimed(self):
        recorder = self.both()
        assert self.claimants(recorder) == {"mine", "theirs"}
        recorder.store.record_found(self.MINE, "b")
        assert self.claimants(recorder) == {"theirs"}
        assert self.claimants(recorder, "b") == {"mine"}
        recorder.store.record_found(self.MINE, None)
        assert self.claimants(recorder, "b") == set()

    def test_ids_that_several_accounts_claim(self):
        recorder = self.both()
        assert recorder.store.shared_ids == {"a"}
        recorder.store.record_found(self.MINE, "b")
        assert recorder.store.shared_ids == set()
        recorder.store.record_found(self.MINE, "a")
        recorder.remove(self.THEIRS)
        assert recorder.store.shared_ids == set()
        second = channel("second")
        recorder.upsert(second)
        recorder.store.record_found(second, "a")
        assert recorder.store.shared_ids == set(), "both are objects of one account"

    def test_the_channel_on_record_is_claimed_until_the_first_pass(self):
        recording = channel(status=ACTIVE)
        recorder = Recorder(*ACCOUNTS, recording)
        assert self.claimants(recorder) == {"support"}
        recorder.store.record_found(recording, None)
        assert self.claimants(recorder) == set()
        recorder.upsert(channel(status=ACTIVE, version=2, generation=2))
        assert self.claimants(recorder) == set()

    def test_a_new_claim_wakes_the_other_claimants(self):
        recorder = Recorder(*ACCOUNTS, self.MINE, self.THEIRS)
        recorder.store.record_found(self.MINE, "a")
        assert recorder.calls == []
        recorder.store.record_found(self.THEIRS, "a")
        assert recorder.calls == [(DEFAULT, False)]
        recorder.calls.clear()
        recorder.store.record_found(self.THEIRS, "a")
        assert recorder.calls == []

    def test_the_keeper_s_removal_wakes_the_duplicates(self):
        recorder = self.both()
        assert recorder.remove(self.THEIRS) == woken(DEFAULT, FAR)
        assert self.claimants(recorder) == {"mine"}

    def test_the_keeper_s_deletion_wakes_the_duplicates(self):
        recorder = self.both()
        deleting = channel("theirs", namespace="elsewhere", version=2, deleting=True)
        assert recorder.upsert(deleting) == woken(DEFAULT, FAR)

    async def test_a_removal_found_by_a_list_wakes_the_duplicates(self):
        recorder = self.both()
        await recorder.store.channels.scope("elsewhere").replace([])
        assert set(recorder.calls) == {(DEFAULT, False), (FAR, False)}

    def test_a_removal_within_the_account_wakes_it_once(self):
        recorder = Recorder(channel("one"), channel("other", created=1))
        recorder.store.record_found(channel("one"), "a")
        recorder.calls.clear()
        recorder.remove(channel("one"))
        assert recorder.calls == [(DEFAULT, False)]

    def moved(self, back=False):
        """Return THEIRS in another account, with the status from its former one."""
        status = replace(ACTIVE, account="default")
        name = "default" if back else "second"
        return channel(
            "theirs",
            namespace="elsewhere",
            account=name,
            status=status,
            version=3 if back else 2,
            generation=3 if back else 2,
        )

    def test_a_move_ends_the_claim_and_wakes_both_accounts_and_claimants(self):
        recorder = self.both()
        there = ("elsewhere", "second")
        assert recorder.upsert(self.moved()) == woken(FAR, there, DEFAULT)
        assert self.claimants(recorder) == {"mine"}
        assert recorder.store.claimed(self.moved()) is None
        assert recorder.store.channels_of(FAR) == []
        assert [each.metadata.name for each in recorder.store.channels_of(there)] == ["theirs"]

    def test_a_channel_found_in_the_new_account_is_claimed(self):
        recorder = self.both()
        recorder.upsert(self.moved())
        recorder.store.record_found(self.moved(), "b")
        assert self.claimants(recorder, "b") == {"theirs"}
        assert self.claimants(recorder) == {"mine"}

    def test_a_move_back_claims_the_channel_on_record_and_wakes_claimants(self):
        recorder = self.both()
        recorder.upsert(self.moved())
        assert recorder.upsert(self.moved(back=True)) == woken(
            FAR, ("elsewhere", "second"), DEFAULT
        )
        assert self.claimants(recorder) == {"mine", "theirs"}

    def test_an_object_moved_before_a_restart_claims_nothing(self):
        recorder = Recorder(*ACCOUNTS, self.MINE, self.moved())
        assert self.claimants(recorder) == set()
        recorder.store.forget_found(self.moved())
        assert self.claimants(recorder) == set()

    def test_a_deleted_object_cannot_claim(self):
        recorder = self.both()
        recorder.remove(self.THEIRS)
        recorder.store.record_found(self.THEIRS, "a")
        assert self.claimants(recorder) == {"mine"}

    def test_an_old_uid_cannot_claim(self):
        recorder = self.both()
        recorder.upsert(channel("theirs", namespace="elsewhere", uid="new", version=9))
        recorder.store.record_found(self.THEIRS, "b")
        assert self.claimants(recorder, "b") == set()

    def test_an_object_without_its_account_has_no_say(self):
        recorder, theirs = self.both(), account(namespace="elsewhere")
        assert recorder.remove(theirs) == woken(FAR, DEFAULT)
        assert self.claimants(recorder) == {"mine"}
        assert recorder.upsert(theirs) == woken(FAR, DEFAULT)
        assert self.claimants(recorder) == {"mine", "theirs"}
