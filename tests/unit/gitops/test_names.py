"""Names of exported objects."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.examples import examples
from wazzup_operator.gitops.names import Called, names

NUMBER = "79865784457"


def named(*channels, taken=()):
    """Return the names of channels, each a name or a name with a number."""
    called = [
        Called(each, "whatsapp", NUMBER) if not isinstance(each, tuple) else Called(*each)
        for each in channels
    ]
    return names(called, set(taken))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Support", "support"),
        ("  Sales & Returns! ", "sales-returns"),
        ("Поддержка", "podderzhka"),
        ("Қазақша", "qazaqsha"),
        ("Ünïcödé ß", "unicode-ss"),
        ("日本", "riben"),
        ("🎉 party", "tada-party"),
        ("a.b_c", "a-b-c"),
        ("Shop 24", "shop-24"),
        ("2024", "2024"),
        ("79865784457 (Sales)", "sales"),
        ("+7 986 578-44-57 Sales", "sales"),
        ("Sales +7 (986) 5784457 Moscow", "sales-moscow"),
        ("shop 12 floor 2024", "shop-floor"),
        ("x" * 200, "x" * 50),
        ("79865784457", "whatsapp-4457"),
        ("", "whatsapp-4457"),
        (None, "whatsapp-4457"),
        ("---", "whatsapp-4457"),
        ("\x00\n", "whatsapp-4457"),
    ],
)
def test_one_name(name, expected):
    assert named(name) == [expected]


def test_equal_names_show_the_number_s_last_digits():
    one, two = ("Sales", "whatsapp", "79865784457"), ("sales!", "wapi", "79990001122")
    assert named(one, two) == ["sales-4457", "sales-1122"]
    assert named(two, one) == ["sales-1122", "sales-4457"]


def test_equal_names_and_digits():
    same = [("Sales", "whatsapp", f"{each}4457") for each in range(1000000, 1000030)]
    found = named(*same)
    assert found[:3] == ["sales-4457", "sales-4457-b", "sales-4457-c"]
    assert found[25:27] == ["sales-4457-z", "sales-4457-aa"]


def test_taken_names():
    assert named("Sales", taken=["sales"]) == ["sales-4457"]
    assert named("Sales", taken=["sales", "sales-4457"]) == ["sales-4457-b"]
    assert named("Shop 24", taken=["shop-24"]) == ["shop-4457"]
    assert named("24 Shop", taken=["24-shop"]) == ["shop-4457"]


@examples(300)
@given(
    st.lists(
        st.builds(
            Called,
            st.one_of(
                st.none(),
                st.text(max_size=80),
                st.from_regex(r"\A[+0-9 ()x-]{0,20}\Z"),
                st.sampled_from(["Sales", "sales", "Продажи"]),
            ),
            st.sampled_from(["whatsapp", "wapi"]),
            st.from_regex(r"\A[1-9][0-9]{6,14}\Z"),
        ),
        max_size=12,
    ),
    st.sets(st.sampled_from(["sales", "prodazhi", "whatsapp-1"])),
)
def test_names_are_labels_and_differ_and_show_at_most_four_digits(channels, taken):
    found = names(channels, taken)
    assert len(found) == len(set(found)) == len(channels)
    for name in found:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)
        assert sum(map(str.isdigit, name)) <= 4
        assert name not in taken
