"""From the bytes of GET /v3/channels to a listing."""

import json

import pytest

from wazzup_operator.domain.listing import ListedChannel
from wazzup_operator.wazzup.errors import WazzupError
from wazzup_operator.wazzup.wire import MAX_CHANNELS, read_listing

GOOD = {
    "channelId": "a",
    "transport": "whatsapp",
    "plainId": "79865784457",
    "state": "active",
}
NUMBER = ("whatsapp", "79865784457")
BOTH = {NUMBER, ("wapi", "79865784457")}


def read(*rows):
    return read_listing(json.dumps(rows).encode())


def without(*fields):
    return {key: value for key, value in GOOD.items() if key not in fields}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param(
            GOOD, ListedChannel("a", "whatsapp", "79865784457", "active", None), id="documented"
        ),
        pytest.param(
            {**GOOD, "name": "79865784457 (Sales)"},
            ListedChannel("a", "whatsapp", "79865784457", "active", "79865784457 (Sales)"),
            id="with a name",
        ),
        pytest.param(
            {**GOOD, "name": 5},
            ListedChannel("a", "whatsapp", "79865784457", "active", None),
            id="a name that is none",
        ),
        pytest.param(
            {**GOOD, "later": {"field": [1]}},
            ListedChannel("a", "whatsapp", "79865784457", "active", None),
            id="unknown fields",
        ),
        pytest.param(
            {**GOOD, "transport": "wapi", "state": "onModeration"},
            ListedChannel("a", "wapi", "79865784457", "onModeration", None),
            id="wapi",
        ),
        pytest.param(
            {**GOOD, "plainId": 79865784457},
            ListedChannel("a", "whatsapp", "79865784457", "active", None),
            id="plainId as a number",
        ),
        pytest.param(
            {**GOOD, "plainId": "+79865784457"},
            ListedChannel("a", "whatsapp", "79865784457", "active", None),
            id="plainId with a plus",
        ),
        pytest.param(
            {**GOOD, "plainId": None},
            ListedChannel("a", "whatsapp", None, "active", None),
            id="plainId null",
        ),
        pytest.param(
            {**GOOD, "plainId": ""},
            ListedChannel("a", "whatsapp", None, "active", None),
            id="plainId empty",
        ),
        pytest.param(
            without("plainId"),
            ListedChannel("a", "whatsapp", None, "active", None),
            id="no plainId",
        ),
        pytest.param(
            {**GOOD, "state": "s" * 1000},
            ListedChannel("a", "whatsapp", "79865784457", "s" * 256, None),
            id="an endless state",
        ),
        pytest.param(
            {**GOOD, "name": "n" * 1000},
            ListedChannel("a", "whatsapp", "79865784457", "active", "n" * 256),
            id="an endless name",
        ),
    ],
)
def test_sound_rows(row, expected):
    listing = read(row)
    assert listing.channels == {"a": expected}
    assert listing.doubtful_ids == listing.doubtful_numbers == frozenset()


@pytest.mark.parametrize(
    "transport", ["instagram", "tgapi", "telegram", "vk", "avito", "max", "viber", "WhatsApp", ""]
)
def test_other_transports_are_passed_over(transport):
    listing = read(GOOD, {**GOOD, "channelId": "b", "transport": transport})
    assert set(listing.channels) == {"a"}
    assert listing.doubtful_ids == listing.doubtful_numbers == frozenset()


@pytest.mark.parametrize(
    "transport", [pytest.param("instagram", id="instagram"), pytest.param("vk", id="vk")]
)
def test_broken_rows_of_other_transports_are_no_doubt(transport):
    listing = read({"transport": transport, "plainId": "79865784457"})
    assert listing.doubtful_ids == listing.doubtful_numbers == frozenset()


@pytest.mark.parametrize(
    ("row", "ids", "numbers"),
    [
        pytest.param(without("channelId"), set(), {NUMBER}, id="no id"),
        pytest.param({**GOOD, "channelId": None}, set(), {NUMBER}, id="null id"),
        pytest.param({**GOOD, "channelId": 5}, set(), {NUMBER}, id="an id that is a number"),
        pytest.param(without("state"), {"a"}, {NUMBER}, id="no state"),
        pytest.param({**GOOD, "state": None}, {"a"}, {NUMBER}, id="null state"),
        pytest.param({**GOOD, "state": ["active"]}, {"a"}, {NUMBER}, id="a list as state"),
        pytest.param(without("transport"), {"a"}, BOTH, id="no transport"),
        pytest.param({**GOOD, "transport": 1}, {"a"}, BOTH, id="a number as transport"),
        pytest.param({**GOOD, "plainId": ["7"]}, {"a"}, set(), id="a list as plainId"),
        pytest.param({**GOOD, "plainId": True}, {"a"}, set(), id="plainId true"),
        pytest.param(
            {"transport": "whatsapp", "plainId": 79865784457}, set(), {NUMBER}, id="only a number"
        ),
        pytest.param({}, set(), set(), id="nothing at all"),
    ],
)
def test_broken_rows_are_left_out_and_named(row, ids, numbers):
    listing = read(row)
    assert listing.channels == {}
    assert listing.doubtful_ids == ids
    assert listing.doubtful_numbers == numbers


def test_an_empty_id_is_none():
    listing = read({**GOOD, "channelId": ""})
    assert listing.channels == {}
    assert NUMBER in listing.doubtful_numbers


def test_an_endless_id_is_left_out():
    listing = read({**GOOD, "channelId": "i" * 65})
    assert listing.channels == {}
    assert NUMBER in listing.doubtful_numbers


def test_one_broken_row_leaves_the_others():
    other = {**GOOD, "channelId": "b", "plainId": "79990001122"}
    listing = read(without("channelId"), other, {})
    assert set(listing.channels) == {"b"}
    assert listing.doubtful_numbers == {NUMBER}


def test_identical_rows_count_once():
    listing = read(GOOD, GOOD, {**GOOD, "plainId": 79865784457})
    assert set(listing.channels) == {"a"}
    assert len(listing.by_number[NUMBER]) == 1
    assert listing.doubtful_ids == frozenset()


@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
@pytest.mark.parametrize(
    ("other", "numbers"),
    [
        ({**GOOD, "state": "qr"}, {NUMBER}),
        ({**GOOD, "plainId": "79990001122"}, {NUMBER, ("whatsapp", "79990001122")}),
        ({**GOOD, "transport": "wapi"}, BOTH),
        ({**GOOD, "name": "Sales"}, {NUMBER}),
        (without("plainId"), {NUMBER}),
    ],
    ids=["state", "number", "transport", "name", "no number"],
)
def test_contradicting_rows_are_left_out(other, numbers, turned):
    listing = read(*([other, GOOD] if turned else [GOOD, other]), GOOD)
    assert listing.channels == {}
    assert listing.doubtful_ids == {"a"}
    assert listing.doubtful_numbers == numbers


def test_numbers_meet_in_one_spelling():
    listing = read({**GOOD, "plainId": "5215512345678"})
    assert list(listing.by_number) == [("whatsapp", "525512345678")]
    assert listing.channels["a"].plain_id == "5215512345678"


def test_several_channels_of_one_number():
    listing = read(GOOD, {**GOOD, "channelId": "b"})
    assert [each.channel_id for each in listing.by_number[NUMBER]] == ["a", "b"]


def test_an_empty_listing_is_one():
    assert read().channels == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>502 Bad Gateway</html>",
        b"[",
        b"[{]",
        b"\xff\xfe[]",
        b"null",
        b"{}",
        b'{"channels": []}',
        b'"active"',
        b"12",
        b"[1]",
        b"[null]",
        b"[[]]",
        b'[{"channelId": "a", "transport": "whatsapp", "state": "active"}, "b"]',
        b"[" * 100_000,
        b'{"error": "INVALID_APIKEY"}',
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_listing(body):
    with pytest.raises(WazzupError) as caught:
        read_listing(body)
    assert caught.value.reason == "AccountUnreachable"
    assert caught.value.code == "malformed"
    assert str(caught.value).startswith("Wazzup answered with")


def test_too_many_channels():
    assert len(read_listing(b"[" + b",".join([b"{}"] * MAX_CHANNELS) + b"]").channels) == 0
    with pytest.raises(WazzupError, match="100001 channels") as caught:
        read_listing(b"[" + b",".join([b"{}"] * (MAX_CHANNELS + 1)) + b"]")
    assert caught.value.code == "too-large"
