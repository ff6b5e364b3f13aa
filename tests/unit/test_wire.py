"""Parsing the body of GET /v3/channels."""

import json
import subprocess
import sys
import time

import pytest

from tests.unit.build import ACCOUNT, World, at, channel, condition, ready
from wazzup_operator.domain.listing import ListedChannel, Listing
from wazzup_operator.domain.transport import Transport
from wazzup_operator.reconcile.observation import Listed
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
            id="name is a number",
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
            id="very long state",
        ),
        pytest.param(
            {**GOOD, "name": "n" * 1000},
            ListedChannel("a", "whatsapp", "79865784457", "active", "n" * 256),
            id="very long name",
        ),
    ],
)
def test_valid_rows(row, expected):
    listing = read(row)
    assert listing.channels == {"a": expected}
    assert listing.ambiguous_ids == listing.ambiguous_numbers == frozenset()


@pytest.mark.parametrize("transport", [*map(str, Transport), "max"])
def test_unmanaged_channel_keeps_its_transport(transport):
    world = World()
    channel = ListedChannel("a", transport, "79865784457", "active")
    world.step(Listed(Listing.of([channel]), Trust(frozenset())), at(0))
    (unmanaged,) = world.accounts[ACCOUNT].status.unmanaged
    assert unmanaged.transport == transport


@pytest.mark.parametrize(
    "transport", ["instagram", "tgapi", "telegram", "vk", "avito", "max", "viber", "WhatsApp", ""]
)
def test_other_transports_are_ignored(transport):
    listing = read(GOOD, {**GOOD, "channelId": "b", "transport": transport})
    assert set(listing.channels) == {"a"}
    assert listing.ambiguous_ids == listing.ambiguous_numbers == frozenset()


@pytest.mark.parametrize(
    ("row", "ids", "numbers"),
    [
        pytest.param(without("channelId"), set(), {NUMBER}, id="no id"),
        pytest.param({**GOOD, "channelId": None}, set(), {NUMBER}, id="null id"),
        pytest.param({**GOOD, "channelId": 5}, set(), {NUMBER}, id="id is a number"),
        pytest.param({**GOOD, "channelId": ""}, set(), {NUMBER}, id="empty id"),
        pytest.param({**GOOD, "channelId": "i" * 65}, set(), {NUMBER}, id="id too long"),
        pytest.param(without("state"), {"a"}, {NUMBER}, id="no state"),
        pytest.param({**GOOD, "state": None}, {"a"}, {NUMBER}, id="null state"),
        pytest.param({**GOOD, "state": ["active"]}, {"a"}, {NUMBER}, id="state is a list"),
        pytest.param(without("transport"), {"a"}, EVERY, id="no transport"),
        pytest.param({**GOOD, "transport": 1}, {"a"}, EVERY, id="transport is a number"),
        pytest.param({**GOOD, "plainId": ["7"]}, {"a"}, set(), id="plainId is a list"),
        pytest.param({**GOOD, "plainId": True}, {"a"}, set(), id="plainId is true"),
        pytest.param(
            {"transport": "whatsapp", "plainId": 79865784457}, set(), {NUMBER}, id="only a number"
        ),
        pytest.param({}, set(), set(), id="empty row"),
        pytest.param({**GOOD, "channelId": "i" * 2**20}, set(), {NUMBER}, id="very long id"),
        pytest.param({**GOOD, "channelId": "a\n"}, set(), {NUMBER}, id="line break in id"),
        pytest.param({**GOOD, "channelId": "\0"}, set(), {NUMBER}, id="NUL as id"),
        pytest.param({**GOOD, "channelId": {"a": "a"}}, set(), {NUMBER}, id="id is an object"),
        pytest.param({**GOOD, "plainId": 7.9e10}, {"a"}, set(), id="plainId is a float"),
        pytest.param({**GOOD, "plainId": 10**64}, {"a"}, set(), id="plainId of 65 digits"),
        pytest.param(
            {**GOOD, "plainId": "7" * 2**20},
            {"a"},
            {("whatsapp", "7" * 64)},
            id="very long plainId",
        ),
        pytest.param({**GOOD, "plainId": {"a": 1}}, {"a"}, set(), id="plainId is an object"),
    ],
)
def test_damaged_rows_are_skipped_and_their_ids_and_numbers_recorded(row, ids, numbers):
    listing = read(row)
    assert listing.channels == {}
    assert listing.skipped == 1
    assert listing.ambiguous_ids == ids
    assert listing.ambiguous_numbers == numbers


def test_damaged_row_does_not_affect_others():
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
    ids=["nested", "very long", "null", "number", "object"],
)
def test_invalid_ids_of_other_transports_are_not_ambiguous(channel_id):
    listing = read(GOOD, {"transport": "instagram", "channelId": channel_id, "plainId": "7"})
    assert set(listing.channels) == {"a"}
    assert listing.ambiguous_ids == frozenset()
    assert listing.skipped == 0


@pytest.mark.parametrize("swapped", [False, True], ids=["", "swapped"])
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
    ids=["state", "number", "transport", "name", "no number", "damaged", "another transport"],
)
def test_contradicting_rows_are_skipped(other, numbers, swapped):
    listing = read(*([other, GOOD] if swapped else [GOOD, other]), GOOD)
    assert listing.channels == {}
    assert listing.ambiguous_ids == {"a"}
    assert listing.ambiguous_numbers == numbers
    assert listing.skipped == 3 - (other["transport"] == "tgapi")  # which no object can declare


def test_numbers_are_canonical():
    listing = read({**GOOD, "plainId": "5215512345678"})
    assert list(listing.by_number) == [("whatsapp", "525512345678")]
    assert listing.channels["a"].plain_id == "5215512345678"


def test_several_channels_with_one_number():
    listing = read(GOOD, {**GOOD, "channelId": "b"})
    assert [each.channel_id for each in listing.by_number[NUMBER]] == ["a", "b"]


def test_empty_listing_is_valid():
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
def test_malformed_bodies(body):
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
        pytest.param(r"\ud83d\ude00", "\U0001f600", id="surrogate pair"),
        pytest.param(r"\ud83d", "\ufffd", id="first half"),
        pytest.param(r"\uDE00", "\ufffd", id="second half"),
        pytest.param(r"\ude00\ud83d", "\ufffd\ufffd", id="halves in wrong order"),
        pytest.param(r"\ud83d\ud83d\ude00", "\ufffd\U0001f600", id="half before a pair"),
        pytest.param(r"\ud83d\ude00\ude00", "\U0001f600\ufffd", id="half after a pair"),
        pytest.param(r"\ude00 \\ud83d", "\ufffd \\ud83d", id="backslash and letters"),
        pytest.param(r"\ud83d \\\ude00", "\ufffd \\\ufffd", id="backslash and a half"),
        pytest.param(r"\ud83d\u0441\\", "\ufffd\u0441\\", id="half before a letter"),
        pytest.param("\u2028\ufffe\x7f", "\u2028\ufffe\x7f", id="noncharacters"),
    ],
)
def test_unusual_characters_in_names(written, expected):
    row = json.dumps({**GOOD, "name": "@"}, ensure_ascii=False).replace("@", written)
    name = read_listing(f"[{row}]".encode()).channels["a"].name
    assert name == expected
    name.encode()  # the API server accepts only what can be encoded


def test_last_of_two_equal_keys_wins():
    listing = read_listing(
        b'[{"channelId": "a", "channelId": "b", "transport": "whatsapp", "state": "active"}]'
    )
    assert set(listing.channels) == {"b"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" + b"{}," * 500_000 + b"{}]", id="empty rows"),
        pytest.param(b"[" + b"1," * 1_000_000 + b"1]", id="numbers"),
        pytest.param(b'[{"later":[' + b"[]," * 500_000 + b"[]]}]", id="inside a row"),
        pytest.param(b'[{"name":"' + b"," * 1_000_000 + b'"}]', id="commas in a name"),
        pytest.param(b"[" * 1_000_001, id="not JSON"),
    ],
)
def test_too_many_values(body):
    with pytest.raises(WazzupError) as caught:
        read_listing(body)
    assert caught.value.code == "too-large"
    assert caught.value.reason == "AccountUnreachable"
    assert str(caught.value) == (
        "Wazzup's listing exceeds the operator's limit of 1000000 values. If this persists, contact"
        " Wazzup's support."
    )


def largest_listing():
    """Return a valid listing of MAX_CHANNELS, each with two commas in its name."""
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


def test_largest_listing():
    body = largest_listing()
    began = time.process_time()
    listing = read_listing(body)
    taken = time.process_time() - began
    assert len(listing.channels) == len(listing.by_number) == 100_000
    assert (listing.skipped, listing.truncated) == (0, 0)
    assert taken < 5, "parsing blocked the event loop"


def test_many_channels_with_one_number_take_no_longer():
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

def peak():  # in KiB; getrusage would include the parent's memory
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

body = eval(sys.argv[1])
assert len(body) <= 16 * 2**20
Path("/proc/self/clear_refs").write_text("5")  # resets the peak
before = peak()
code = "parsed"
try:
    read_listing(body)
except WazzupError as error:
    code = error.code
print(code, (peak() - before) // 1024)
"""


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        pytest.param("b'[' + b'{},' * 5_500_000 + b'{}]'", "too-large", id="empty rows"),
        pytest.param(
            "b'[' + b','.join([b'[' * 1000 + b']' * 1000] * 8_000) + b']'",
            "too-large",
            id="nested lists",
        ),
        pytest.param(
            "b'[' + b','.join(b'{\"name\":' + b'{\"\":' * 900 + b'1' + b'}' * 901"
            " for _ in range(1_100)) + b']'",
            "parsed",
            id="nested objects, within the limit",
        ),
        pytest.param(
            "b'[' + b','.join(b'{\"name\":' + b''.join(b'{\"%07d\":' % (m * 900 + n)"
            " for n in range(900)) + b'1' + b'}' * 901 for m in range(1_100)) + b']'",
            "parsed",
            id="nested objects with a million keys, within the limit",
        ),
        pytest.param(
            "b'[{\"name\":{' + b','.join(b'\"%05d\":\"ab\"' % n for n in range(999_000)) + b'}}]'",
            "parsed",
            id="a million fields, within the limit",
        ),
        pytest.param(
            "b'[{\"name\":[' + b'[],' * 499_000 + b'[]]}]'",
            "parsed",
            id="empty lists, within the limit",
        ),
        pytest.param(
            "b'[{\"name\":\"' + b'\\\\ud83d' * 2_790_000 + b'\"}]'",
            "malformed",
            id="lone surrogates",
        ),
        pytest.param(
            "b'[{\"name\":\"' + b'\\\\' * 16_000_000 + b'\"}]'", "parsed", id="backslashes"
        ),
        pytest.param(
            "'[{\"name\":\"\U0001f600'.encode() + b'a' * 16_700_000 + b'\"}]'",
            "parsed",
            id="wide characters",
        ),
    ],
)
def test_parsing_takes_bounded_memory(expression, code):
    """Not counting the body. The first two once took 480 and 750 MiB."""
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, expression], capture_output=True, text=True, check=False
    )
    assert process.stderr == ""
    found, peak = process.stdout.split()
    assert found == code
    assert int(peak) < 300, "MiB"


@pytest.mark.parametrize(
    ("rows", "has_rows"),
    [
        pytest.param([], False, id="none"),
        pytest.param([GOOD], True, id="a channel"),
        pytest.param([{}], True, id="a damaged row"),
        pytest.param([{**GOOD, "transport": "vk"}], True, id="another transport"),
    ],
)
def test_whether_an_answer_has_rows(rows, has_rows):
    assert read(*rows).has_rows == has_rows


def test_long_texts_are_truncated_or_dropped():
    long = "e" * 2**20
    listing = read(
        {**GOOD, "channelId": long, "plainId": "79990001122"},
        {**GOOD, "channelId": "b", "plainId": long},
        {"channelId": long, "transport": "vk"},
        {**GOOD, "name": long, "state": long, long: long},
    )
    trust = weigh(Trust(frozenset()), listing, 0.0)
    texts = [*trust.known, *listing.ambiguous_ids, *(n for _, n in listing.ambiguous_numbers)]
    for each in listing.channels.values():
        texts += [each.channel_id, each.plain_id, each.upstream_state, each.name]
    assert max(map(len, texts)) == 256
    assert listing.truncated == 1


LISTS = "Wazzup lists the account's channels."
SKIPPED = f"{LISTS} The operator skipped"
ONE_ROW = "1 ambiguous row (damaged or contradictory)"
TRUNCATED = "truncated the long name or state of"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], LISTS, id="empty"),
        pytest.param([GOOD, GOOD], LISTS, id="valid"),
        pytest.param([GOOD, {"transport": "vk"}], LISTS, id="other transport"),
        pytest.param([GOOD, {}], f"{SKIPPED} {ONE_ROW}.", id="one damaged row"),
        pytest.param(
            [GOOD, {**GOOD, "state": "qr"}, {"channelId": 5}],
            f"{SKIPPED} 3 ambiguous rows (damaged or contradictory).",
            id="three rows",
        ),
        pytest.param(
            [GOOD, without("state")],
            f"{SKIPPED} 2 ambiguous rows (damaged or contradictory).",
            id="valid and damaged row with one id",
        ),
        pytest.param([{**GOOD, "name": "n" * 256}], LISTS, id="as long as allowed"),
        pytest.param(
            [{**GOOD, "name": "n" * 257}],
            f"{LISTS} The operator {TRUNCATED} 1 channel.",
            id="too long",
        ),
        pytest.param(
            [
                {**GOOD, "name": "n" * 999, "state": "s" * 999},
                {**GOOD, "channelId": "b", "state": "s" * 999},
                {"name": "n" * 999},
            ],
            f"{SKIPPED} {ONE_ROW} and {TRUNCATED} 2 channels.",
            id="both",
        ),
    ],
)
def test_account_status_reports_skipped_rows_and_truncated_channels(rows, expected):
    """The account stays Ready. Neither time nor the order of rows changes the status."""
    world = World()
    for minutes, order in enumerate([rows, rows, rows[::-1]]):
        listing = read(*order)
        planned = world.step(Listed(listing, weigh(Trust(frozenset()), listing, 0.0)), at(minutes))
        assert (planned.account_status is None) == (minutes > 0)
    status = world.accounts[ACCOUNT].status
    assert ready(status) == ("True", "UpToDate")
    assert condition(status, "Ready").message == expected


def test_account_status_reports_skipped_rows_while_an_id_is_unconfirmed():
    """An unconfirmed id freezes the counts, but not the message."""
    world = World(channel())
    first, second = read(GOOD, {}), read({})
    trust = weigh(Trust(frozenset()), first, 0.0)
    world.step(Listed(first, trust), at(0))
    message = condition(world.accounts[ACCOUNT].status, "Ready").message
    trust = weigh(trust, second, 1.0, first)
    assert set(trust.missing) == {"a"}
    assert world.step(Listed(second, trust), at(1)).account_status is None
    assert message == f"{SKIPPED} {ONE_ROW}."


class TestPrevious:
    """A listing beside the previous one of its account."""

    ROWS = (
        {**GOOD, "name": "Sales"},
        {**GOOD, "channelId": "b", "plainId": "+79990001122"},
        {**GOOD, "channelId": "c", "plainId": 79990001133},
        {**GOOD, "channelId": "d", "name": "x" * 300},
        {**GOOD, "channelId": "e", "plainId": None},
        {**GOOD, "channelId": "f", "transport": "telegram"},
        {**GOOD, "channelId": "g", "state": None},
    )

    def test_an_equal_listing_is_the_previous_one(self):
        before = read(*self.ROWS)
        assert read_listing(json.dumps(self.ROWS[::-1]).encode(), before) is before

    @pytest.mark.parametrize(
        "change",
        [
            {"state": "qr"},
            {"name": "Support"},
            {"name": None},
            {"plainId": "79990001144"},
            {"plainId": None},
            {"transport": "wapi"},
        ],
    )
    def test_only_changed_rows_are_parsed(self, change):
        before = read(*self.ROWS)
        rows = [{**self.ROWS[0], **change}, *self.ROWS[1:]]
        after = read_listing(json.dumps(rows).encode(), before)
        assert after == read(*rows) != before
        same = {id_ for id_ in after.channels if after.channels[id_] is before.channels[id_]}
        assert same == {"b", "c", "d", "e"}

    @pytest.mark.parametrize("damage", [{"state": None}, {"plainId": True}, {"transport": None}])
    def test_a_damaged_row_is_not_taken_from_it(self, damage):
        before = read(*self.ROWS)
        after = read_listing(json.dumps([{**self.ROWS[0], **damage}]).encode(), before)
        assert after.ambiguous_ids == {"a"}

    def test_a_repeated_row_that_differs_is_ambiguous(self):
        before = read(*self.ROWS)
        rows = [self.ROWS[0], {**self.ROWS[0], "state": "qr"}]
        assert read_listing(json.dumps(rows).encode(), before).ambiguous_ids == {"a"}
