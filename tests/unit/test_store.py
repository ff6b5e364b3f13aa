"""The informers' copy of the objects: what it holds, and whom a change wakes."""

from dataclasses import replace

import pytest

from tests.unit.build import account, channel
from wazzup_operator.controller.store import Store
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.channel import ChannelStatus

DEFAULT = NamespacedName("shop", "default")
SECOND = NamespacedName("shop", "second")
FAR = NamespacedName("elsewhere", "default")
PAUSED = {"wazzup.dev/paused": "true"}
REQUEST = {"wazzup.dev/requested-at": "now"}
ACTIVE = ChannelStatus(observed_generation=1, state="Active", channel_id="a")


class Heard:
    """A Store, and whom it has woken since one last looked."""

    def __init__(self, *objects):
        self.calls = []
        self.store = Store(lambda key, requested: self.calls.append((key, requested)))
        self.add(*objects)

    def add(self, *objects):
        """Let the informers tell of these, and forget whom that woke."""
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
    """What is in it."""

    def test_objects_by_account(self):
        heard = Heard(channel("a"), channel("b"), channel("c", account="second"))
        assert {each.metadata.name for each in heard.store.channels_of(DEFAULT)} == {"a", "b"}
        assert {each.metadata.name for each in heard.store.channels_of(SECOND)} == {"c"}
        assert heard.store.channels_of(FAR) == []

    def test_accounts_that_exist_or_are_referred_to(self):
        heard = Heard(channel("a", account="second"), account())
        assert heard.store.account_keys() == {DEFAULT, SECOND}
        heard.remove(channel("a", account="second"))
        heard.remove(account())
        assert heard.store.account_keys() == set()

    @pytest.mark.parametrize(
        ("version", "kept"), [(1, "new"), (5, "new"), (9, "new"), (10, "new"), (11, "later")]
    )
    def test_an_older_version_is_passed_over(self, version, kept):
        heard = Heard(channel(display_name="new", version=10))
        calls = heard.upsert(channel(display_name="later", version=version, generation=2))
        (present,) = heard.store.all_channels()
        assert present.spec.display_name == kept
        assert calls == (woken(DEFAULT) if kept == "later" else [])

    def test_the_same_name_with_another_uid_is_another_object(self):
        heard = Heard(channel(uid="old", version=10, status=ACTIVE))
        assert heard.upsert(channel(uid="new", version=11)) == woken(DEFAULT)
        (present,) = heard.store.all_channels()
        assert present.metadata.uid == "new"
        assert heard.store.contenders("a") == []
        assert heard.store.channels_of(DEFAULT) == [present]

    def test_the_same_name_in_another_account(self):
        heard = Heard(channel(uid="old", account="second"))
        assert heard.upsert(channel(uid="new")) == woken(DEFAULT, SECOND)
        assert heard.store.channels_of(SECOND) == []

    def test_removed_by_uid_only(self):
        heard = Heard(channel(uid="new"))
        assert heard.remove(channel(), uid="old") == []
        assert heard.names() == ["support"]
        assert heard.remove(channel(), uid="new") == woken(DEFAULT)
        assert heard.names() == []
        assert heard.remove(channel(), uid="new") == []


class TestReplace:
    """What a new list does."""

    def test_what_is_not_listed_is_deleted(self):
        heard = Heard(channel("a"), channel("b"), channel("c"))
        heard.store.channels.scope(None).replace([channel("b"), channel("d")])
        assert heard.names() == ["b", "d"]
        assert set(heard.calls) == {(DEFAULT, False)}

    def test_the_same_list_is_no_news(self):
        heard = Heard(channel("a"), channel("b"))
        heard.store.channels.scope(None).replace([channel("a"), channel("b")])
        assert heard.calls == []

    def test_a_namespace_only_speaks_for_itself(self):
        heard = Heard(channel("a"), channel("b", namespace="elsewhere"))
        heard.store.channels.scope("shop").replace([])
        assert heard.names() == ["b"]

    def test_an_object_of_the_same_name_is_exchanged(self):
        heard = Heard(channel(uid="old", version=10, status=ACTIVE))
        heard.store.channels.scope(None).replace([channel(uid="new", version=12)])
        (present,) = heard.store.all_channels()
        assert present.metadata.uid == "new"
        assert heard.store.contenders("a") == []

    def test_a_list_is_believed_after_etcd_went_back(self):
        heard = Heard(channel(version=100, status=ACTIVE))
        heard.store.channels.scope(None).replace([channel(version=40)])
        heard.upsert(channel(version=41, display_name="newer"))
        (present,) = heard.store.all_channels()
        assert present.spec.display_name == "newer"

    def test_the_answer_to_a_write_does_not_bring_an_object_back(self):
        heard = Heard(channel(version=1))
        heard.store.channels.remove(NamespacedName("shop", "support"), "uid-shop-support")
        heard.store.channels.update(channel(version=2, status=ACTIVE))
        assert list(heard.store.all_channels()) == []

    def test_the_answer_to_a_write_leaves_a_namesake_alone(self):
        heard = Heard(channel(version=1))
        heard.store.channels.remove(NamespacedName("shop", "support"), "uid-shop-support")
        another = channel(version=3, uid="another")
        heard.upsert(another)
        heard.store.channels.update(channel(version=4, status=ACTIVE))
        assert list(heard.store.all_channels()) == [another]

    def test_accounts_too(self):
        heard = Heard(account(), account("second"))
        heard.store.accounts.scope(None).replace([account("second")])
        assert set(heard.calls) == {(DEFAULT, False)}
        assert heard.store.account_keys() == {SECOND}


class TestWakes:
    """Who is to make a pass."""

    @pytest.mark.parametrize(
        "new",
        [
            pytest.param(channel(version=2, generation=2, active=False), id="the spec"),
            pytest.param(channel(version=2, deleting=True), id="the deletion"),
            pytest.param(channel(version=2, annotations=PAUSED), id="a pause"),
            pytest.param(
                channel(version=2, annotations={"wazzup.dev/replaces": "x"}), id="a replacement"
            ),
        ],
    )
    def test_what_is_news(self, new):
        heard = Heard(channel())
        assert heard.upsert(new) == woken(DEFAULT)

    @pytest.mark.parametrize(
        "new",
        [
            pytest.param(channel(version=2), id="nothing we know of"),
            pytest.param(channel(version=2, status=ACTIVE), id="a status, whoever wrote it"),
            pytest.param(channel(version=2, annotations={"team": "x"}), id="foreign annotations"),
        ],
    )
    def test_what_is_none(self, new):
        heard = Heard(channel())
        assert heard.upsert(new) == []

    def test_a_new_object_wakes_its_account(self):
        assert Heard().upsert(channel(account="second")) == woken(SECOND)

    def test_a_status_along_with_a_change_is_news(self):
        heard = Heard(channel())
        assert heard.upsert(channel(version=2, generation=2, status=ACTIVE)) == woken(DEFAULT)

    @pytest.mark.parametrize("make", [channel, account], ids=["channel", "account"])
    def test_requested_at_asks_for_a_listing(self, make):
        name = "default"
        heard = Heard(make(name))
        asked = make(name, version=2, annotations=REQUEST)
        assert heard.upsert(asked) == woken(DEFAULT, requested=True)
        assert heard.upsert(replace(asked, metadata=replace(asked.metadata))) == []
        again = make(name, version=3, annotations={"wazzup.dev/requested-at": "later"})
        assert heard.upsert(again) == woken(DEFAULT, requested=True)
        assert heard.upsert(make(name, version=4)) == woken(DEFAULT)

    def test_a_request_that_stays_is_none(self):
        heard = Heard(channel(annotations=REQUEST))
        assert heard.upsert(channel(version=2, generation=2, annotations=REQUEST)) == woken(DEFAULT)

    def test_a_new_object_with_a_request(self):
        assert Heard().upsert(channel(annotations=REQUEST)) == woken(DEFAULT, requested=True)

    @pytest.mark.parametrize(
        "new",
        [
            account(version=2, generation=2),
            account(version=2, annotations=PAUSED),
            account(version=2, deleting=True),
        ],
        ids=["spec", "pause", "deletion"],
    )
    def test_an_accounts_news(self, new):
        heard = Heard(account())
        assert heard.upsert(new) == woken(DEFAULT)

    def test_an_accounts_coming_and_going(self):
        heard = Heard(channel())
        assert heard.upsert(account()) == woken(DEFAULT)
        assert heard.remove(account()) == woken(DEFAULT)


class TestClaims:
    """Objects of several accounts that found one channel."""

    MINE = channel("mine", created=5)
    THEIRS = channel("theirs", namespace="elsewhere")

    def both(self):
        heard = Heard(self.MINE, self.THEIRS)
        heard.store.record_found(self.MINE, "a")
        heard.store.record_found(self.THEIRS, "a")
        heard.calls.clear()
        return heard

    def contenders(self, heard, channel_id="a"):
        return {each.metadata.name for each in heard.store.contenders(channel_id)}

    def test_what_was_found(self):
        heard = self.both()
        assert self.contenders(heard) == {"mine", "theirs"}
        heard.store.record_found(self.MINE, "b")
        assert self.contenders(heard) == {"theirs"}
        assert self.contenders(heard, "b") == {"mine"}
        heard.store.record_found(self.MINE, None)
        assert self.contenders(heard, "b") == set()

    def test_what_was_recorded_counts_until_it_was_asked(self):
        recording = channel(status=ACTIVE)
        heard = Heard(recording)
        assert self.contenders(heard) == {"support"}
        heard.store.record_found(recording, None)
        assert self.contenders(heard) == set()
        heard.upsert(channel(status=ACTIVE, version=2, generation=2))
        assert self.contenders(heard) == set()

    def test_a_first_find_wakes_the_others(self):
        heard = Heard(self.MINE, self.THEIRS)
        heard.store.record_found(self.MINE, "a")
        assert heard.calls == []
        heard.store.record_found(self.THEIRS, "a")
        assert heard.calls == [(DEFAULT, False)]
        heard.calls.clear()
        heard.store.record_found(self.THEIRS, "a")
        assert heard.calls == []

    def test_the_winners_removal_wakes_the_losers(self):
        heard = self.both()
        assert heard.remove(self.THEIRS) == woken(DEFAULT, FAR)
        assert self.contenders(heard) == {"mine"}

    def test_the_winners_deletion_wakes_the_losers(self):
        heard = self.both()
        deleting = channel("theirs", namespace="elsewhere", version=2, deleting=True)
        assert heard.upsert(deleting) == woken(DEFAULT, FAR)

    def test_a_removal_found_by_a_list_wakes_the_losers(self):
        heard = self.both()
        heard.store.channels.scope("elsewhere").replace([])
        assert set(heard.calls) == {(DEFAULT, False), (FAR, False)}

    def test_a_removal_within_the_account_wakes_it_once(self):
        heard = Heard(channel("one"), channel("other", created=1))
        heard.store.record_found(channel("one"), "a")
        heard.calls.clear()
        heard.remove(channel("one"))
        assert heard.calls == [(DEFAULT, False)]

    def moved(self, back=False):
        """Return THEIRS in another account, with what the former one's passes wrote to it."""
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

    def test_a_move_ends_the_claim_and_wakes_both_accounts_and_whoever_waits(self):
        heard = self.both()
        there = ("elsewhere", "second")
        assert heard.upsert(self.moved()) == woken(FAR, there, DEFAULT)
        assert self.contenders(heard) == {"mine"}
        assert heard.store.claimed(self.moved()) is None
        assert heard.store.channels_of(FAR) == []
        assert [each.metadata.name for each in heard.store.channels_of(there)] == ["theirs"]
        assert heard.store.account_keys() == {DEFAULT, there}

    def test_what_is_found_in_the_new_account_is_claimed(self):
        heard = self.both()
        heard.upsert(self.moved())
        heard.store.record_found(self.moved(), "b")
        assert self.contenders(heard, "b") == {"theirs"}
        assert self.contenders(heard) == {"mine"}

    def test_a_move_back_claims_what_is_on_record_and_wakes_who_took_it(self):
        heard = self.both()
        heard.upsert(self.moved())
        assert heard.upsert(self.moved(back=True)) == woken(FAR, ("elsewhere", "second"), DEFAULT)
        assert self.contenders(heard) == {"mine", "theirs"}

    def test_an_object_that_was_moved_before_a_start_claims_nothing(self):
        heard = Heard(self.MINE, self.moved())
        assert self.contenders(heard) == set()
        heard.store.forget_found(self.moved())
        assert self.contenders(heard) == set()

    def test_a_note_of_an_object_that_has_gone(self):
        heard = self.both()
        heard.remove(self.THEIRS)
        heard.store.record_found(self.THEIRS, "a")
        assert self.contenders(heard) == {"mine"}

    def test_a_note_of_a_namesakes(self):
        heard = self.both()
        heard.upsert(channel("theirs", namespace="elsewhere", uid="new", version=9))
        heard.store.record_found(self.THEIRS, "b")
        assert self.contenders(heard, "b") == set()
