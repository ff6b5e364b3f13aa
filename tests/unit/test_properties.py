"""Properties of all objects, listings, statuses and times."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.expected_states import BY_NAME, SPELLINGS
from tests.merge_patch import merged
from tests.unit.build import (
    ACCOUNT,
    GONE,
    World,
    account,
    at,
    channel,
    condition,
    make_plan,
    unlisted,
)
from tests.unit.examples import examples
from wazzup_operator.domain.listing import ListedChannel, Listing
from wazzup_operator.domain.phone import canonical
from wazzup_operator.kube.status import merge_patch
from wazzup_operator.reconcile.observation import Listed
from wazzup_operator.reconcile.trust import Missing, Trust, weigh
from wazzup_operator.resources.base import Condition, NamespacedName
from wazzup_operator.resources.channel import ActionStatus, ChannelStatus, Drift, WazzupChannel
from wazzup_operator.wazzup.errors import WazzupError
from wazzup_operator.wazzup.wire import read_listing

FAR = NamespacedName("elsewhere", "default")
IDS = ["a", "b", "c", "d"]
NUMBERS = [
    *("+79865784457", "+79990001122"),
    *("+5215512345678", "+525512345678"),
    *("+5511987654321", "+551187654321", "+551132345678"),
]
STATES = [*SPELLINGS, "melted", ""]
OWN_STATES = [*BY_NAME, "Melting", None]
REASONS = [
    *("Active", "ScanQRCode", "Off", "NotConnected", "StillActive", "Unknown", "Paused"),
    *("AccountNotFound", "AccountUnreachable", "DuplicatePhoneNumber", "AmbiguousChannel"),
]

times = st.integers(-3600, 3600).map(lambda seconds: at(seconds / 60))
numbers = st.sampled_from([*NUMBERS[:2] * 4, *NUMBERS])
maybe_ids = st.none() | st.sampled_from(IDS)


def made(type_: str, status: Any, reason: str, since: Any, generation: int) -> Condition:
    return Condition(
        type=type_,
        status=status,
        observed_generation=generation,
        last_transition_time=since,
        reason=reason,
        message="As before.",
    )


@st.composite
def statuses(draw: Any) -> ChannelStatus:
    if draw(st.booleans()):
        return ChannelStatus()
    generation, since = draw(st.integers(1, 3)), draw(times)
    ready = draw(st.sampled_from(["True", "False", "Unknown"]))
    reason = draw(st.sampled_from(REASONS))
    progress = draw(st.sampled_from([None, "Reconciling", "Stalled"]))
    conditions = [
        made("Ready", ready, reason, since, generation),
        made("Synced", draw(st.sampled_from(["True", "Unknown"])), reason, since, generation),
    ]
    if progress:
        conditions.append(made(progress, "True", reason, draw(times), generation))
    full = draw(st.booleans())
    drift = Drift(field="displayName", declared="Support", observed="Sales")
    return ChannelStatus(
        observed_generation=generation,
        state=draw(st.sampled_from(OWN_STATES)),
        upstream_state="qr" if full else None,
        channel_id=draw(maybe_ids),
        plain_id="79865784457" if full else None,
        display_name="Sales" if full else None,
        state_since=since if full else None,
        action=ActionStatus(summary="Act.") if full else None,
        drift=(drift,) if full else (),
        conditions=tuple(conditions) if draw(st.integers(0, 9)) else (),
    )


@st.composite
def channels(draw: Any, index: int, namespace: str) -> Any:
    annotations = {}
    if draw(st.integers(0, 5)) == 0:
        annotations["wazzup.dev/paused"] = "true"
    if draw(st.integers(0, 3)) == 0:
        annotations["wazzup.dev/replaces"] = f"c{draw(st.integers(0, 4))}"
    return channel(
        f"c{index}",
        draw(numbers),
        namespace=namespace,
        status=draw(statuses()),
        active=draw(st.booleans()),
        transport=draw(st.sampled_from(["whatsapp", "whatsapp", "wapi"])),
        channel_id=draw(st.none() | maybe_ids),
        display_name=draw(st.none() | st.just("Support")),
        generation=draw(st.integers(1, 3)),
        created=draw(st.integers(0, 2)),
        deleting=draw(st.integers(0, 7)) == 0,
        annotations=annotations,
    )


@st.composite
def listings(draw: Any) -> Listing:
    rows = draw(
        st.lists(
            st.builds(
                ListedChannel,
                st.sampled_from(IDS),
                st.sampled_from(["whatsapp", "whatsapp", "wapi"]),
                st.none() | numbers.map(lambda number: number[1:]),
                st.sampled_from(STATES),
                st.none() | st.sampled_from(["Support", "Sales"]),
            ),
            max_size=4,
            unique_by=lambda row: row.channel_id,
        )
    )
    listed = {row.channel_id for row in rows}
    ambiguous = draw(st.sets(st.sampled_from(IDS), max_size=1)) - listed
    ambiguous_numbers = draw(
        st.just(()) | numbers.map(lambda number: [("whatsapp", canonical(number))])
    )
    return Listing.of(rows, ambiguous, ambiguous_numbers)


@st.composite
def observations(draw: Any, *, sure: bool = False) -> Any:
    if not sure and draw(st.integers(0, 3)) == 0:
        reason = draw(
            st.sampled_from(["AccountUnreachable", "SecretNotFound", "CredentialsInvalid"])
        )
        return unlisted(reason, stale=draw(st.booleans()))
    listing = draw(listings())
    known = frozenset(draw(st.sets(st.sampled_from(IDS))))
    unconfirmed = frozenset(draw(st.sets(st.sampled_from(IDS)))) & known
    missing = dict.fromkeys(unconfirmed, Missing(draw(st.sampled_from([-90.0, -30.0])), None))
    return Listed(listing, weigh(Trust(known, missing), listing, 0.0))


@st.composite
def worlds(draw: Any, *, namespaces: tuple[str, ...] = ("shop",)) -> World:
    world = World()
    for namespace in namespaces:
        world.put(account(namespace=namespace, generation=draw(st.integers(1, 2))))
        for index in range(draw(st.integers(0, 4))):
            world.put(draw(channels(index, namespace)))
    return world


@st.composite
def passes(draw: Any) -> tuple[World, Any]:
    """Return a world and an observation of its one account, which may be paused or missing."""
    world = draw(worlds())
    fate = draw(st.sampled_from(["there", "there", "there", "paused", "missing"]))
    if fate == "paused":
        world.put(account(annotations={"wazzup.dev/paused": "true"}))
        return world, None
    if fate == "missing":
        world.accounts.clear()
        return world, GONE
    return world, draw(observations())


def contested_by_id(world: World, observation: Any) -> bool:
    """Return whether several objects know a channel without plainId: see test_claims.py."""
    rows = observation.listing.channels.values() if isinstance(observation, Listed) else ()
    known = [{each.spec.channel_id, each.status.channel_id} for each in world.channels.values()]
    return any(
        row.number is None and sum(row.channel_id in ids for ids in known) > 1 for row in rows
    )


def check(status: ChannelStatus, generation: int) -> None:
    """Check the shape of a status."""
    types = [each.type for each in status.conditions]
    ready = condition(status, "Ready")
    assert types.count("Ready") == types.count("Synced") == 1
    assert ready
    assert set(types) <= {"Ready", "Synced", "Reconciling", "Stalled"}
    progress = types.count("Reconciling") + types.count("Stalled")
    assert progress == (ready.status != "True" and ready.reason != "Paused")
    assert status.observed_generation == generation
    assert all(each.observed_generation == generation for each in status.conditions)
    assert status.state
    assert all(each.message.strip() and each.reason for each in status.conditions)


@examples(75)
@given(passes(), times)
def test_every_object_gets_a_status_of_the_right_shape(given_: Any, now: Any) -> None:
    world, observation = given_
    planned = world.step(observation, now, last_sync=now)
    for each in world.channels.values():
        if not each.metadata.deleting:
            check(each.status, each.metadata.generation)
    if world.accounts:
        status = world.accounts[ACCOUNT].status
        assert status.observed_generation == world.accounts[ACCOUNT].metadata.generation
        assert len(status.unmanaged) <= 100
    assert planned.due is None or planned.due > now


@examples(200)
@given(passes(), times, st.integers(0, 100_000))
def test_the_same_observation_writes_nothing(given_: Any, now: Any, seconds: int) -> None:
    world, observation = given_
    assume(not contested_by_id(world, observation))
    records = [each.recorded.channel_id for each in world.channels.values()]
    planned = world.step(observation, now, last_sync=now)
    if records != [each.recorded.channel_id for each in world.channels.values()]:
        # Records decide between objects of one second.
        planned = world.step(observation, now, last_sync=now)
    later = now + timedelta(seconds=seconds)
    if planned.due:
        later = min(later, planned.due - timedelta(seconds=1))
    again = make_plan(world.view(observation, later, last_sync=now))
    assert not again.statuses
    assert again.account_status is None


@examples(200)
@given(passes(), times)
def test_an_object_moved_to_another_account_is_like_new(given_: Any, now: Any) -> None:
    """Apart from times, the progress deadline and the former account's record."""
    world, observation = given_
    moved, new = World(), World()
    moved.accounts = new.accounts = world.accounts
    for each in world.channels.values():
        new.put(replace(each, status=ChannelStatus()))
        former = replace(each.status, account="former", observed_generation=0)
        moved.put(replace(each, status=former))
    moved.step(observation, now)
    new.step(observation, now)
    for key, each in new.channels.items():
        if not each.metadata.deleting:
            seen = moved.channels[key]
            here = replace(seen.recorded, account="default")
            assert without_times(here) == without_times(each.status)
            assert seen.status.account == "default" or record(seen) == record(world.channels[key])
    assert moved.found == new.found


def record(channel: WazzupChannel) -> Any:
    return channel.status.channel_id, channel.status.plain_id


def without_times(status: ChannelStatus) -> Any:
    conditions = {each.type: (each.status, each.reason, each.message) for each in status.conditions}
    return replace(status, state_since=None, conditions=()), conditions


@examples(75)
@given(passes(), times)
def test_nothing_is_written_twice_after_the_deadline(given_: Any, now: Any) -> None:
    world, observation = given_
    world.step(observation, now, last_sync=now)
    world.step(observation, now + timedelta(hours=9), last_sync=now)
    again = make_plan(world.view(observation, now + timedelta(days=9), last_sync=now))
    assert not again.statuses


@examples(75)
@given(passes(), times)
def test_the_order_of_the_objects_does_not_matter(given_: Any, now: Any) -> None:
    world, observation = given_
    straight = make_plan(world.view(observation, now))
    world.channels = dict(reversed(world.channels.items()))
    turned = make_plan(world.view(observation, now))
    assert {each.metadata.uid: status for each, status in straight.statuses} == {
        each.metadata.uid: status for each, status in turned.statuses
    }
    assert straight.account_status == turned.account_status


@examples(200)
@given(
    worlds(namespaces=("shop", "elsewhere")),
    observations(sure=True),
    st.none() | observations(sure=True),
    times,
)
def test_at_most_one_object_holds_a_channel(world: World, one: Any, other: Any, now: Any) -> None:
    two = other or one  # two keys of one account show the same
    for _ in range(3):
        world.step(one, now)
        world.step(two, now, FAR)
    assert not make_plan(world.view(one, now)).statuses
    assert not make_plan(world.view(two, now, FAR)).statuses
    held = []
    for each in world.channels.values():
        observation = one if each.account_key == ACCOUNT else two
        recent = each.metadata.uid in world.found
        sure = not each.metadata.paused and not each.metadata.deleting
        if recent and sure and each.status.channel_id in observation.listing.channels:
            held.append(each.status.channel_id)
    assert len(held) == len(set(held))


@examples(75)
@given(passes(), times)
def test_no_object_of_another_namespace_is_named(given_: Any, now: Any) -> None:
    world, observation = given_
    world.put(account(namespace="elsewhere"))
    for each in list(world.channels.values()):
        world.put(
            channel(
                "secret-name",
                each.spec.phone_number,
                namespace="elsewhere",
                created=-9,
                status=ChannelStatus(channel_id=each.status.channel_id),
            )
        )
    for channel_id in IDS:
        world.found["uid-elsewhere-secret-name"] = channel_id
        for _, status in make_plan(world.view(observation, now)).statuses:
            assert "secret-name" not in str(status)
            assert "elsewhere" not in str(status).replace("openElsewhere", "")


numberlike = st.from_regex(r"\A\+?[1-9][0-9]{6,14}\Z") | st.sampled_from(NUMBERS)
local = st.from_regex(r"\A[0-9]{7,11}\Z")


@examples(200)
@given(
    numberlike | st.builds("".join, st.tuples(st.sampled_from(["521", "549", "5511", "55"]), local))
)
def test_canonical_is_idempotent(number: str) -> None:
    once = canonical(number)
    assert canonical(once) == canonical("+" + once) == once
    assert once.isdigit()


scalars = st.integers() | st.text(max_size=5) | st.booleans()
keys = st.sampled_from(["state", "action", "conditions", "x", ""])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=4)


@examples(200)
@given(objects, objects)
def test_a_merge_patch_makes_old_into_new(old: Any, new: Any) -> None:
    assert merged(old, merge_patch(old, new)) == new


@examples(200)
@given(objects)
def test_a_merge_patch_of_the_same_is_empty(old: Any) -> None:
    assert merge_patch(old, old) == {}


fields = st.sampled_from(["channelId", "transport", "plainId", "state", "name", "other"])
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["whatsapp", "wapi", "a", "79865784457"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=5),
    max_leaves=20,
)
row_values = (
    st.none()
    | st.integers(0, 2)
    | st.sampled_from(["whatsapp", "wapi", "a", "b", "79865784457", "active", "qr", ""])
    | st.lists(st.integers(), max_size=1)
)
loose_rows = st.lists(st.dictionaries(fields, row_values, max_size=6), max_size=6)


def read(body: bytes) -> Listing | None:
    try:
        return read_listing(body)
    except WazzupError:
        return None


@examples(200)
@given(st.binary() | st.binary().map(lambda middle: b"[" + middle + b"]"))
def test_any_bytes_are_a_listing_or_a_wazzup_error(body: bytes) -> None:
    read(body)


@examples(200)
@given(anything)
def test_any_json_is_a_listing_or_a_wazzup_error(value: Any) -> None:
    read(json.dumps(value).encode())


@examples(200)
@given(loose_rows)
def test_any_rows_are_a_listing(rows: Any) -> None:
    listing = read(json.dumps(rows).encode())
    assert listing is not None
    assert not listing.channels.keys() & listing.ambiguous_ids
    for row in listing.channels.values():
        assert row.transport in {"whatsapp", "wapi"}
        assert 0 < len(row.channel_id) <= 64


@examples(200)
@given(loose_rows, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: Any, random: Any) -> None:
    straight = read(json.dumps(rows).encode())
    turned = list(rows)
    random.shuffle(turned)
    other = read(json.dumps(turned).encode())
    assert straight
    assert other
    assert straight.channels == other.channels
    assert straight.ambiguous_ids == other.ambiguous_ids
    assert straight.ambiguous_numbers == other.ambiguous_numbers
