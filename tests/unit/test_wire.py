"""From the bytes of GET /v3/channels to a listing."""

import json
import subprocess
import sys
import time

import pytest
from pydantic import ValidationError

from tests.unit.build import ACCOUNT, World, at, channel, condition, ready
from wazzup_operator.domain.listing import ListedChannel, Listing
from wazzup_operator.domain.transport import Transport
from wazzup_operator.reconcile.plan import Listed
from wazzup_operator.reconcile.trust import Trust, weigh
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
EVERY = {(each, "79865784457") for each in Transport}


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
    assert listing.ambiguous_ids == listing.ambiguous_numbers == frozenset()


@pytest.mark.parametrize("transport", list(Transport))
def test_an_undeclared_channel_is_shown_with_its_own_transport(transport):
    world = World()
    world.step(Listed(read({**GOOD, "transport": str(transport)}), Trust(frozenset())), at(0))
    (unmanaged,) = world.accounts[ACCOUNT].status.unmanaged
    assert unmanaged.transport is transport


@pytest.mark.parametrize("transport", ["tgapi", "WHATSAPP", "", None])
def test_no_transport_becomes_another_one(transport):
    unknown = ListedChannel("a", transport, "79865784457", "active")
    with pytest.raises(ValidationError, match="transport"):
        World().step(Listed(Listing.of([unknown]), Trust(frozenset())), at(0))


@pytest.mark.parametrize(
    "transport", ["instagram", "tgapi", "telegram", "vk", "avito", "max", "viber", "WhatsApp", ""]
)
def test_other_transports_are_passed_over(transport):
    listing = read(GOOD, {**GOOD, "channelId": "b", "transport": transport})
    assert set(listing.channels) == {"a"}
    assert listing.ambiguous_ids == listing.ambiguous_numbers == frozenset()


@pytest.mark.parametrize(
    ("row", "ids", "numbers"),
    [
        pytest.param(without("channelId"), set(), {NUMBER}, id="no id"),
        pytest.param({**GOOD, "channelId": None}, set(), {NUMBER}, id="null id"),
        pytest.param({**GOOD, "channelId": 5}, set(), {NUMBER}, id="an id that is a number"),
        pytest.param({**GOOD, "channelId": ""}, set(), {NUMBER}, id="an empty id"),
        pytest.param({**GOOD, "channelId": "i" * 65}, set(), {NUMBER}, id="an id that is too long"),
        pytest.param(without("state"), {"a"}, {NUMBER}, id="no state"),
        pytest.param({**GOOD, "state": None}, {"a"}, {NUMBER}, id="null state"),
        pytest.param({**GOOD, "state": ["active"]}, {"a"}, {NUMBER}, id="a list as state"),
        pytest.param(without("transport"), {"a"}, EVERY, id="no transport"),
        pytest.param({**GOOD, "transport": 1}, {"a"}, EVERY, id="a number as transport"),
        pytest.param({**GOOD, "plainId": ["7"]}, {"a"}, set(), id="a list as plainId"),
        pytest.param({**GOOD, "plainId": True}, {"a"}, set(), id="plainId true"),
        pytest.param(
            {"transport": "whatsapp", "plainId": 79865784457}, set(), {NUMBER}, id="only a number"
        ),
        pytest.param({}, set(), set(), id="nothing at all"),
        pytest.param({**GOOD, "channelId": "i" * 2**20}, set(), {NUMBER}, id="an endless id"),
        pytest.param({**GOOD, "channelId": "a\n"}, set(), {NUMBER}, id="a line break in an id"),
        pytest.param({**GOOD, "channelId": "\0"}, set(), {NUMBER}, id="NUL as id"),
        pytest.param({**GOOD, "channelId": {"a": "a"}}, set(), {NUMBER}, id="an object as id"),
        pytest.param({**GOOD, "plainId": 7.9e10}, {"a"}, set(), id="a number with a point"),
        pytest.param({**GOOD, "plainId": 10**30}, {"a"}, set(), id="a number of 31 digits"),
        pytest.param(
            {**GOOD, "plainId": "7" * 2**20}, {"a"}, {("whatsapp", "7" * 64)}, id="endless digits"
        ),
        pytest.param({**GOOD, "plainId": {"a": 1}}, {"a"}, set(), id="an object as plainId"),
    ],
)
def test_broken_rows_are_left_out_and_named(row, ids, numbers):
    listing = read(row)
    assert listing.channels == {}
    assert listing.skipped == 1
    assert listing.ambiguous_ids == ids
    assert listing.ambiguous_numbers == numbers


def test_one_broken_row_leaves_the_others():
    other = {**GOOD, "channelId": "b", "plainId": "79990001122"}
    listing = read(without("channelId"), other, {})
    assert set(listing.channels) == {"b"}
    assert listing.ambiguous_numbers == {NUMBER}


def test_identical_rows_count_once():
    listing = read(GOOD, GOOD, {**GOOD, "plainId": 79865784457})
    assert set(listing.channels) == {"a"}
    assert len(listing.by_number[NUMBER]) == 1
    assert listing.ambiguous_ids == frozenset()


@pytest.mark.parametrize(
    "channel_id",
    [json.loads("[" * 900 + "]" * 900), "i" * 2**20, None, 5, {"a": []}],
    ids=["nested", "endless", "none", "a number", "an object"],
)
def test_odd_ids_of_other_transports_are_no_doubt(channel_id):
    listing = read(GOOD, {"transport": "instagram", "channelId": channel_id, "plainId": "7"})
    assert set(listing.channels) == {"a"}
    assert listing.ambiguous_ids == frozenset()
    assert listing.skipped == 0


@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
@pytest.mark.parametrize(
    ("other", "numbers"),
    [
        ({**GOOD, "state": "qr"}, {NUMBER}),
        ({**GOOD, "plainId": "79990001122"}, {NUMBER, ("whatsapp", "79990001122")}),
        ({**GOOD, "transport": "wapi"}, BOTH),
        ({**GOOD, "name": "Sales"}, {NUMBER}),
        (without("plainId"), {NUMBER}),
        (without("plainId", "state"), {NUMBER}),
        ({**GOOD, "transport": "tgapi", "plainId": "1"}, {NUMBER}),
    ],
    ids=["state", "number", "transport", "name", "no number", "broken", "another transport"],
)
def test_contradicting_rows_are_left_out(other, numbers, turned):
    listing = read(*([other, GOOD] if turned else [GOOD, other]), GOOD)
    assert listing.channels == {}
    assert listing.ambiguous_ids == {"a"}
    assert listing.ambiguous_numbers == numbers
    assert listing.skipped == 3 - (other["transport"] == "tgapi")  # which no object can declare


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
        b"[" * 500_000 + b"]" * 500_000,
        b'[{"later":' * 2_000 + b"1" + b"}]" * 2_000,
        b"[NaN]",
        b'[{"plainId": Infinity}]',
        b'[{"plainId": 1e999}]',
        b'[{"plainId": 1' + b"0" * 5_000 + b"}]",
        b"\xef\xbb\xbf[]",
        b"[]\x00",
        b'[{"name": "\x00"}]',
        b'[{"name": "\xff"}]',
        b'[{"name": "\xed\xa0\xbd"}]',
        b'[{"name": "\\x41"}]',
        "[]".encode("utf-16"),
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


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param(r"Sales \u0000", "Sales \0", id="NUL"),
        pytest.param(r"\u001b[31m\u0007\r\n", "\x1b[31m\x07\r\n", id="control characters"),
        pytest.param(r"\ud83d\ude00", "\U0001f600", id="a whole pair"),
        pytest.param(r"\ud83d", "\ufffd", id="the first half of a pair"),
        pytest.param(r"\uDE00", "\ufffd", id="the second half"),
        pytest.param(r"\ude00\ud83d", "\ufffd\ufffd", id="the halves in the wrong order"),
        pytest.param(r"\ud83d\ud83d\ude00", "\ufffd\U0001f600", id="a half before a pair"),
        pytest.param(r"\ud83d\ude00\ude00", "\U0001f600\ufffd", id="a half after a pair"),
        pytest.param(r"\ude00 \\ud83d", "\ufffd \\ud83d", id="a backslash and letters"),
        pytest.param(r"\ud83d \\\ude00", "\ufffd \\\ufffd", id="a backslash and a half"),
        pytest.param(r"\ud83d\u0441\\", "\ufffd\u0441\\", id="a half before a letter"),
        pytest.param("\u2028\ufffe\x7f", "\u2028\ufffe\x7f", id="not characters"),
    ],
)
def test_names_of_odd_characters(written, expected):
    row = json.dumps({**GOOD, "name": "@"}, ensure_ascii=False).replace("@", written)
    name = read_listing(f"[{row}]".encode()).channels["a"].name
    assert name == expected
    name.encode()  # what cannot be encoded cannot be written to the API server


def test_the_last_of_two_equal_keys_counts():
    listing = read_listing(
        b'[{"channelId": "a", "channelId": "b", "transport": "whatsapp", "state": "active"}]'
    )
    assert set(listing.channels) == {"b"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" + b"{}," * 500_000 + b"{}]", id="empty rows"),
        pytest.param(b"[" + b"1," * 1_000_000 + b"1]", id="numbers"),
        pytest.param(b'[{"later":[' + b"[]," * 500_000 + b"[]]}]", id="within a row"),
        pytest.param(b'[{"name":"' + b"," * 1_000_000 + b'"}]', id="a name of commas"),
        pytest.param(b"[" * 1_000_001, id="no JSON at all"),
    ],
)
def test_too_many_parts(body):
    with pytest.raises(WazzupError) as caught:
        read_listing(body)
    assert caught.value.code == "too-large"
    assert caught.value.reason == "AccountUnreachable"
    assert str(caught.value) == (
        "Wazzup's listing has more than the 1000000 parts that the operator reads; if this stays,"
        " write to Wazzup's support."
    )


def fullest():
    """A lawful listing of as many channels as are read, each with two commas in its name."""
    rows = [
        {
            "channelId": f"{n:08d}-0000-4000-8000-000000000000",
            "transport": "whatsapp",
            "plainId": f"79{n:09d}",
            "state": "active",
            "name": f"{n}, {n}, {n}",
        }
        for n in range(MAX_CHANNELS)
    ]
    return json.dumps(rows, separators=(",", ":")).encode()


def test_the_fullest_listing():
    body = fullest()
    began = time.process_time()
    listing = read_listing(body)
    taken = time.process_time() - began
    assert len(listing.channels) == len(listing.by_number) == 100_000
    assert (listing.skipped, listing.truncated) == (0, 0)
    assert taken < 5, "the event loop stood still meanwhile"


def test_many_channels_of_one_number_take_no_longer():
    rows = [{**GOOD, "channelId": f"{n}"} for n in range(MAX_CHANNELS)]
    began = time.process_time()
    listing = read(*rows)
    assert time.process_time() - began < 5
    assert len(listing.by_number[NUMBER]) == 100_000


MEASURE = """
import re, sys
from pathlib import Path
from wazzup_operator.wazzup.errors import WazzupError
from wazzup_operator.wazzup.wire import read_listing

def peak():  # in KiB; getrusage would tell of the parent's memory too
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

body = eval(sys.argv[1])
assert len(body) <= 16 * 2**20
Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
before = peak()
try:
    read_listing(body)
except WazzupError:
    pass
print((peak() - before) // 1024)
"""


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("b'[' + b'{},' * 5_500_000 + b'{}]'", id="empty rows"),
        pytest.param(
            "b'[' + b','.join([b'[' * 1000 + b']' * 1000] * 8_000) + b']'", id="nested lists"
        ),
        pytest.param(
            "b'[' + b','.join(b'{\"\":' * 1000 + b'1' + b'}' * 1000 for _ in range(998)) + b']'",
            id="nested objects, within the limit",
        ),
        pytest.param(
            "b'[' + b','.join(b''.join(b'{\"%07d\":' % (m * 1000 + n) for n in range(1000))"
            " + b'1' + b'}' * 1000 for m in range(998)) + b']'",
            id="nested objects with a million keys, within the limit",
        ),
        pytest.param(
            "b'[{' + b','.join(b'\"%05d\":\"ab\"' % n for n in range(999_000)) + b'}]'",
            id="a million fields, within the limit",
        ),
        pytest.param("b'[{\"name\":\"' + b'\\\\ud83d' * 2_790_000 + b'\"}]'", id="halves"),
        pytest.param("b'[{\"name\":\"' + b'\\\\' * 16_000_000 + b'\"}]'", id="backslashes"),
        pytest.param(
            "'[{\"name\":\"\U0001f600'.encode() + b'a' * 16_700_000 + b'\"}]'", id="a wide text"
        ),
    ],
)
def test_reading_takes_bounded_memory(expression):
    """Beside the body, that is; the first two took 480 and 750 MiB once."""
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, expression], capture_output=True, text=True, check=False
    )
    assert process.stderr == ""
    assert int(process.stdout) < 400, "MiB"


def test_nothing_of_endless_texts_is_kept():
    endless = "e" * 2**20
    listing = read(
        {**GOOD, "channelId": endless, "plainId": "79990001122"},
        {**GOOD, "channelId": "b", "plainId": endless},
        {"channelId": endless, "transport": "vk"},
        {**GOOD, "name": endless, "state": endless, endless: endless},
    )
    trust = weigh(Trust(frozenset()), listing)
    texts = [*trust.known, *listing.ambiguous_ids, *(n for _, n in listing.ambiguous_numbers)]
    for each in listing.channels.values():
        texts += [each.channel_id, each.plain_id, each.upstream_state, each.name]
    assert max(map(len, texts)) == 256
    assert listing.truncated == 1


LISTS = "Wazzup lists the account's channels"
ONE_ROW = "; 1 row cannot be made out (damaged, or contradicting each other), and is passed over"
LONG = "the name or the state is too long and is shown cut."


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], f"{LISTS}.", id="none"),
        pytest.param([GOOD, GOOD], f"{LISTS}.", id="sound"),
        pytest.param([GOOD, {"transport": "vk"}], f"{LISTS}.", id="foreign"),
        pytest.param([GOOD, {}], f"{LISTS}{ONE_ROW}.", id="one damaged"),
        pytest.param(
            [GOOD, {**GOOD, "state": "qr"}, {"channelId": 5}],
            f"{LISTS}; 3 rows cannot be made out (damaged, or contradicting each other), and are"
            " passed over.",
            id="three",
        ),
        pytest.param(
            [GOOD, without("state")],
            f"{LISTS}; 2 rows cannot be made out (damaged, or contradicting each other), and are"
            " passed over.",
            id="a sound and a damaged one of the same id",
        ),
        pytest.param([{**GOOD, "name": "n" * 256}], f"{LISTS}.", id="just not too long"),
        pytest.param([{**GOOD, "name": "n" * 257}], f"{LISTS}. Of 1 channel {LONG}", id="long"),
        pytest.param(
            [
                {**GOOD, "name": "n" * 999, "state": "s" * 999},
                {**GOOD, "channelId": "b", "state": "s" * 999},
                {"name": "n" * 999},
            ],
            f"{LISTS}{ONE_ROW}. Of 2 channels {LONG}",
            id="both",
        ),
    ],
)
def test_the_account_says_what_was_left_out(rows, expected):
    """Ready all the same, and written once: neither the order of the rows nor time changes it."""
    world = World()
    for minutes, order in enumerate([rows, rows, rows[::-1]]):
        listing = read(*order)
        planned = world.step(Listed(listing, weigh(Trust(frozenset()), listing)), at(minutes))
        assert (planned.account_status is None) == (minutes > 0)
    status = world.accounts[ACCOUNT].status
    assert ready(status) == ("True", "UpToDate")
    assert condition(status, "Ready").message == expected


def test_the_account_says_it_while_a_channel_is_missed():
    """A suspect leaves the counts as they were; the message goes by the listing all the same."""
    world = World(channel())
    first, second = read(GOOD, {}), read({})
    trust = weigh(Trust(frozenset()), first)
    world.step(Listed(first, trust), at(0))
    message = condition(world.accounts[ACCOUNT].status, "Ready").message
    trust = weigh(trust, second)
    assert trust.suspects == {"a"}
    assert world.step(Listed(second, trust), at(1)).account_status is None
    assert message == f"{LISTS}{ONE_ROW}."
