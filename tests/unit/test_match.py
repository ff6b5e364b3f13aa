"""Which channel of a listing belongs to an object."""

import pytest

from tests.unit.build import OTHER_PHONE, World, at, channel, listed, ready, row
from wazzup_operator.domain.listing import ListedChannel, Listing
from wazzup_operator.domain.phone import canonical
from wazzup_operator.reconcile.finding import Conflict
from wazzup_operator.reconcile.match import Matcher
from wazzup_operator.resources.channel import ChannelStatus

UNSURE, NOT_LISTED = "inconclusive", "not listed"
AMBIGUOUS, MISMATCH = "AmbiguousChannel", "ChannelMismatch"
NUMBER = ("whatsapp", "79865784457")


def match(object_, *rows, unconfirmed=(), ambiguous_ids=(), ambiguous_numbers=()):
    """Return the id of the match, or why there is none."""
    listing = Listing.of(rows, ambiguous_ids, ambiguous_numbers)
    finding = Matcher(listing, frozenset(unconfirmed)).match(object_)
    if isinstance(finding, ListedChannel):
        return finding.channel_id
    if isinstance(finding, Conflict):
        return str(finding.reason)
    return {"Inconclusive": UNSURE, "NotListed": NOT_LISTED}[type(finding).__name__]


def recording(recorded_id, **attributes):
    return channel(status=ChannelStatus(state="Active", channel_id=recorded_id), **attributes)


@pytest.mark.parametrize(
    ("object_", "rows", "expected"),
    [
        pytest.param(channel(), [], NOT_LISTED, id="nothing listed"),
        pytest.param(channel(), [row("a")], "a", id="the only one"),
        pytest.param(channel(), [row("a", "disabled")], "a", id="the only one, off"),
        pytest.param(channel(), [row("a", number=OTHER_PHONE)], NOT_LISTED, id="another number"),
        pytest.param(channel(), [row("a", transport="wapi")], NOT_LISTED, id="another transport"),
        pytest.param(
            channel(transport="wapi"),
            [row("a"), row("b", transport="wapi")],
            "b",
            id="one number in two transports",
        ),
        pytest.param(
            channel(), [row("a", "disabled"), row("b", "qr")], "b", id="the only one that is on"
        ),
        pytest.param(
            channel(),
            [row("a", "disabled"), row("b", "Disabled"), row("c", "blocked")],
            "c",
            id="the only one that is on, of three",
        ),
        pytest.param(channel(), [row("a"), row("b", "qr")], AMBIGUOUS, id="two that are on"),
        pytest.param(
            channel(), [row("a", "disabled"), row("b", "disabled")], AMBIGUOUS, id="two, both off"
        ),
        pytest.param(recording("b"), [row("a", "qr"), row("b")], "b", id="the recorded one"),
        pytest.param(
            recording("b"), [row("a"), row("b", "init")], "b", id="the recorded one, not yet Active"
        ),
        pytest.param(
            recording("b"), [row("a", "init"), row("b", "qr")], "b", id="recorded, none is Active"
        ),
        pytest.param(
            recording("b"),
            [row("a"), row("b", "qr"), row("c")],
            "b",
            id="the recorded one, two others are Active",
        ),
        *(
            pytest.param(recording("b"), [row("a"), row("b", state)], "a", id=f"{state}, another")
            for state in ("qr", "qridle", "blocked", "disabled", "notEnoughMoney")
        ),
        pytest.param(
            recording("b", channel_id="b"),
            [row("a"), row("b", "blocked")],
            "b",
            id="the declared one, another is Active",
        ),
        pytest.param(
            recording("b"),
            [row("a", transport="wapi"), row("b", "blocked")],
            "b",
            id="blocked, Active in another transport",
        ),
        pytest.param(
            recording("b"),
            [row("a"), row("b", "disabled")],
            "a",
            id="the recorded one is off, another is on",
        ),
        pytest.param(
            recording("c"),
            [row("a"), row("b"), row("c", "disabled")],
            AMBIGUOUS,
            id="the recorded one is off, two are on",
        ),
        pytest.param(recording("b"), [row("b", "disabled")], "b", id="the recorded one alone, off"),
        pytest.param(
            recording("b"),
            [row("a", "disabled"), row("b", "disabled")],
            AMBIGUOUS,
            id="the recorded one and another, both off",
        ),
        pytest.param(
            recording("b"),
            [row("a"), row("b", number=OTHER_PHONE)],
            "a",
            id="the recorded one has another number now",
        ),
        pytest.param(
            recording("b"),
            [row("b", number=OTHER_PHONE)],
            NOT_LISTED,
            id="the recorded one has another number now, no other is listed",
        ),
        pytest.param(recording("b"), [row("a")], "a", id="the recorded one is not listed"),
        pytest.param(
            recording("b"), [row("a"), row("c")], AMBIGUOUS, id="recorded is gone, two are on"
        ),
        pytest.param(
            channel(), [row("a", number=None)], NOT_LISTED, id="no plainId, nothing known"
        ),
        pytest.param(recording("a"), [row("a", "qr", None)], "a", id="no plainId, recorded"),
        pytest.param(
            channel(channel_id="a"), [row("a", "qr", None)], "a", id="no plainId, declared"
        ),
        pytest.param(
            channel(), [row("a"), row("b", "qr", None)], "a", id="no plainId beside the right one"
        ),
        pytest.param(channel(channel_id="b"), [row("a"), row("b")], "b", id="declared of two"),
        pytest.param(
            channel(channel_id="b"), [row("a"), row("b", "disabled")], "b", id="declared is off"
        ),
        pytest.param(
            recording("a", channel_id="b"), [row("a"), row("b")], "b", id="declared before recorded"
        ),
        pytest.param(channel(channel_id="b"), [row("a")], NOT_LISTED, id="declared is not listed"),
        pytest.param(
            recording("a", channel_id="b"),
            [row("a")],
            NOT_LISTED,
            id="declared is not listed, recorded is",
        ),
        pytest.param(
            channel(channel_id="b"),
            [row("a"), row("b", number=OTHER_PHONE)],
            MISMATCH,
            id="declared has another number",
        ),
        pytest.param(
            channel(channel_id="b"),
            [row("a"), row("b", transport="wapi")],
            MISMATCH,
            id="declared has another transport",
        ),
        pytest.param(
            channel(channel_id="b"),
            [row("b", number=None, transport="wapi")],
            MISMATCH,
            id="declared has another transport and no plainId",
        ),
    ],
)
def test_the_order(object_, rows, expected):
    assert match(object_, *rows) == expected
    assert match(object_, *reversed(rows)) == expected


@pytest.mark.parametrize(
    ("object_", "rows", "uncertain", "expected"),
    [
        pytest.param(
            recording("a"), [], {"unconfirmed": ["a"]}, UNSURE, id="recorded, unconfirmed"
        ),
        pytest.param(
            recording("a"),
            [row("b", "init")],
            {"unconfirmed": ["a"]},
            UNSURE,
            id="recorded, another is listed",
        ),
        pytest.param(
            recording("a"),
            [row("b")],
            {"unconfirmed": ["a"]},
            "b",
            id="recorded, another is Active",
        ),
        pytest.param(
            recording("a"),
            [row("b"), row("c")],
            {"unconfirmed": ["a"]},
            UNSURE,
            id="recorded, two others are Active",
        ),
        pytest.param(
            channel(channel_id="a"),
            [],
            {"unconfirmed": ["a"]},
            UNSURE,
            id="declared, unconfirmed",
        ),
        pytest.param(
            recording("a"), [row("a")], {"unconfirmed": ["b"]}, "a", id="another is missing"
        ),
        pytest.param(
            recording("a", channel_id="b"),
            [row("b")],
            {"unconfirmed": ["a"]},
            "b",
            id="declared is listed, recorded is missing",
        ),
        pytest.param(
            recording("a"), [], {"ambiguous_ids": ["a"]}, UNSURE, id="recorded is ambiguous"
        ),
        pytest.param(
            channel(channel_id="a"),
            [],
            {"ambiguous_ids": ["a"]},
            UNSURE,
            id="declared is ambiguous",
        ),
        pytest.param(
            channel(),
            [row("a")],
            {"ambiguous_numbers": [NUMBER]},
            UNSURE,
            id="ambiguous number",
        ),
        pytest.param(
            recording("a"),
            [row("a", "init")],
            {"ambiguous_numbers": [NUMBER]},
            "a",
            id="ambiguous number, recorded is listed",
        ),
        pytest.param(
            recording("a"),
            [row("a", "blocked")],
            {"ambiguous_numbers": [NUMBER]},
            UNSURE,
            id="ambiguous number, another may have replaced the recorded one",
        ),
        pytest.param(
            channel(),
            [row("a")],
            {"ambiguous_numbers": [("wapi", "79865784457")]},
            "a",
            id="ambiguous number in another transport",
        ),
        pytest.param(
            channel(),
            [row("a")],
            {"ambiguous_numbers": [("whatsapp", "79990001122")]},
            "a",
            id="another ambiguous number",
        ),
        pytest.param(
            channel(channel_id="a"),
            [row("a")],
            {"ambiguous_numbers": [NUMBER]},
            "a",
            id="ambiguous number, declared is listed",
        ),
        pytest.param(
            channel(channel_id="a"),
            [],
            {"ambiguous_numbers": [NUMBER]},
            UNSURE,
            id="ambiguous number, declared may be the row without an id",
        ),
    ],
)
def test_an_uncertain_listing_is_inconclusive(object_, rows, uncertain, expected):
    assert match(object_, *rows, **uncertain) == expected


def test_ambiguous_names_the_ids():
    listing = Listing.of([row("b"), row("c", "disabled"), row("a", "qr")])
    finding = Matcher(listing, frozenset()).match(channel())
    assert finding.message == (
        "This number has 3 channels in Wazzup: a (ScanQRCode), b (Active), c (Off)."
    )
    assert finding.action.summary == "Set spec.channelID to the id of the right channel."
    ten = Listing.of([row(str(number)) for number in range(10)])
    assert Matcher(ten, frozenset()).match(channel()).message.endswith(" 9 (Active).")
    eleven = Listing.of([row(chr(ord("a") + number)) for number in range(11)])
    assert Matcher(eleven, frozenset()).match(channel()).message.endswith(" j (Active), ….")


def test_a_declared_id_of_another_number_is_said():
    listing = Listing.of([row("b", number=OTHER_PHONE)])
    finding = Matcher(listing, frozenset()).match(channel(channel_id="b"))
    assert finding.message == (
        "The channel with the id in spec.channelID has another phone number or transport."
    )
    assert finding.action.summary.startswith("Recreate this object with the right spec.channelID")


@pytest.mark.parametrize(("declared", "other"), [("whatsapp", "wapi"), ("wapi", "whatsapp")])
def test_a_number_with_another_transport_names_that_transport(declared, other):
    world = World(channel(transport=declared))
    world.step(listed(row("a", transport=other)), at(0))
    assert ready(world.status()) == ("False", "NotAdded")
    assert world.status().action.by == "declaration"
    message = world.status().conditions[0].message
    assert message == (
        f'The Wazzup account has this number only with transport "{other}". Recreate this object'
        f' with spec.transport "{other}" (this deletes nothing in Wazzup), or add the number with'
        f' transport "{declared}" in Wazzup.'
    )


def test_a_declared_id_that_is_not_listed_does_not_ask_to_add_the_number():
    world = World(channel(channel_id="b"))
    world.step(listed(row("a")), at(0))
    assert ready(world.status()) == ("False", "NotAdded")
    assert world.status().channel_id is None
    assert world.status().conditions[0].message == (
        "The Wazzup account has no channel with the id in spec.channelID. Recreate this object with"
        " the right spec.channelID or none (this deletes nothing in Wazzup); if you changed"
        " spec.accountRef, change it back, then change both in one edit."
    )


@pytest.mark.parametrize(
    "spellings",
    [
        pytest.param(["+5215512345678", "+525512345678", "5215512345678"], id="Mexico"),
        pytest.param(["+5491123456789", "+541123456789", "541123456789"], id="Argentina"),
        pytest.param(["+5511987654321", "+551187654321", "551187654321"], id="Brazil 9 8"),
        pytest.param(["+5521967654321", "+552167654321"], id="Brazil 9 6"),
        pytest.param(["+79865784457", "79865784457"], id="Russia"),
    ],
)
def test_spellings_of_one_number(spellings):
    assert len({canonical(each) for each in spellings}) == 1
    for declared in spellings:
        for shown in spellings:
            object_ = channel(number="+" + declared.removeprefix("+"))
            assert match(object_, row("a", number=shown)) == "a"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("+551132345678", "+5511932345678", id="Brazil: land line 3"),
        pytest.param("+552122345678", "+5521922345678", id="Brazil: land line 2"),
        pytest.param("+551155345678", "+5511955345678", id="Brazil: land line 5"),
        pytest.param("+525512345678", "+525512345679", id="Mexico: another number"),
        pytest.param("+52112345678", "+5212345678", id="Mexico: too short"),
        pytest.param("+54911234567", "+5411234567", id="Argentina: too short"),
        pytest.param("+5215512345678", "+5415512345678", id="other countries"),
        pytest.param("+79865784457", "+7865784457", id="Russia has no such digit"),
        pytest.param("+15491123456", "+1541123456", id="549 not at the start"),
    ],
)
def test_different_numbers(one, other):
    assert canonical(one) != canonical(other)
    assert match(channel(number=one), row("a", number=other)) == NOT_LISTED
    assert match(channel(number=other), row("a", number=one)) == NOT_LISTED


def test_the_status_keeps_wazzups_own_spelling():
    world = World(channel(number="+525512345678"))
    world.step(listed(row("a", number="5215512345678")), at(0))
    assert world.status().plain_id == "5215512345678"


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param(listed(row("a")), ("True", "Active"), id="Active"),
        pytest.param(listed(row("a", "qr")), ("False", "ScanQRCode"), id="ScanQRCode"),
        pytest.param(listed(row("a", "blocked")), ("False", "Blocked"), id="Blocked"),
        pytest.param(listed(), ("False", "NotAdded"), id="NotAdded"),
        pytest.param(listed(row("a"), row("b")), ("False", AMBIGUOUS), id="AmbiguousChannel"),
    ],
)
def test_an_inconclusive_listing_writes_nothing(before, expected):
    world = World(channel())
    world.step(before, at(0))
    assert ready(world.status()) == expected
    assert not world.step(listed(ambiguous_numbers=[NUMBER]), at(1)).statuses
    assert ready(world.status()) == expected


def test_a_duplicate_whose_keeper_is_deleted_during_an_inconclusive_listing():
    world = World(channel("older"), channel(created=1))
    world.step(listed(row("a")), at(0))
    world.remove("older")
    world.step(listed(ambiguous_numbers=[NUMBER]), at(1))
    assert ready(world.status()) == ("Unknown", "Unknown")
    assert world.status().action is None


def test_an_inconclusive_listing_follows_a_changed_spec():
    world = World(channel())
    world.step(listed(row("a")), at(0))
    world.edit(active=False)
    world.step(listed(ambiguous_numbers=[NUMBER]), at(1))
    assert ready(world.status()) == ("False", "StillActive")
    assert world.status().observed_generation == 2
    assert world.status().channel_id == "a"
    world.edit(channel_id="b")
    world.step(listed(ambiguous_ids=["b"]), at(2))
    assert (world.status().state, world.status().channel_id) == ("Unknown", None)
