"""The admission rules: when each applies, and its sentence."""

from dataclasses import replace

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.expected_states import BY_NAME
from tests.unit.build import PHONE
from tests.unit.examples import examples
from wazzup_operator.admission.rules import (
    ACCOUNT_RULES,
    CHANNEL_RULES,
    LOOKUP_RULES,
    AccountReview,
    ChannelReview,
    LookedUp,
    Outcome,
    ValidationAction,
    evaluate_account,
    evaluate_channel,
    evaluate_lookups,
)
from wazzup_operator.domain.phone import canonical, spellings
from wazzup_operator.domain.states import State
from wazzup_operator.resources.account import AccountSpec, SecretKeyRef
from wazzup_operator.resources.channel import AccountRef, ChannelSpec

SPEC = ChannelSpec(phone_number=PHONE)
NOTHING = Outcome({}, {})


def created(spec=SPEC, *, replaces=None, holders=(), account_exists=True, **fields):
    """Return the outcome for a new object."""
    spec = replace(spec, **fields)
    return outcome(ChannelReview(spec, None, replaces, State.UNKNOWN), holders, account_exists)


def outcome(review, holders=(), account_exists=True):
    """Apply all rules for channels."""
    found = LookedUp(review, holders, account_exists)
    return evaluate_channel(review) | evaluate_lookups(found)


def updated(old, account_exists=True, state=State.UNKNOWN, **fields):
    """Return the outcome for a change of these fields."""
    new = replace(old, **fields)
    return outcome(ChannelReview(new, old, None, state), (), account_exists)


def test_ids_are_unique_and_summaries_are_sentences():
    rules = [*CHANNEL_RULES, *LOOKUP_RULES, *ACCOUNT_RULES]
    assert len({rule.id for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.summary[-1] == "."
        assert rule.id == rule.id.lower()


def test_which_rules_refuse():
    actions = {rule.id: rule.action for rule in [*CHANNEL_RULES, *LOOKUP_RULES, *ACCOUNT_RULES]}
    assert {id_ for id_, action in actions.items() if action is ValidationAction.DENY} == {
        "phone-number-changed",
        "transport-changed",
        "channel-id-changed",
        "number-impossible",
        "number-taken",
    }


def test_a_correct_new_object_passes_without_warning():
    assert created() == NOTHING


CHANGED = [
    (
        "phone-number-changed",
        {"phone_number": "+79990001122"},
        "spec.phoneNumber cannot be changed from +79865784457. To use a new number, create"
        " another WazzupChannel with it and set spec.active to false in this one.",
    ),
    (
        "transport-changed",
        {"transport": "wapi"},
        "spec.transport cannot be changed from whatsapp. Create another WazzupChannel with wapi,"
        " and set spec.active to false in this one.",
    ),
    (
        "channel-id-changed",
        {"channel_id": "b"},
        "spec.channelID cannot be changed from a or removed unless spec.accountRef changes in"
        " the same edit. Put it back, or recreate this object (this deletes nothing in Wazzup); if"
        " you changed spec.accountRef before, change it back, then change both in one edit.",
    ),
    (
        "channel-id-changed",
        {"channel_id": None},
        "spec.channelID cannot be changed from a or removed unless spec.accountRef changes in"
        " the same edit. Put it back, or recreate this object (this deletes nothing in Wazzup); if"
        " you changed spec.accountRef before, change it back, then change both in one edit.",
    ),
]


@pytest.mark.parametrize(("rule", "fields", "sentence"), CHANGED)
def test_a_changed_identity_is_refused(rule, fields, sentence):
    assert updated(replace(SPEC, channel_id="a"), **fields) == Outcome({rule: sentence}, {})


@pytest.mark.parametrize(("rule", "fields"), [case[:2] for case in CHANGED])
def test_a_new_object_may_set_any_field_that_cannot_change_later(rule, fields):
    assert created(**fields) == NOTHING


def test_a_channel_id_may_be_set_later():
    assert updated(SPEC, channel_id="a") == NOTHING


@pytest.mark.parametrize("old", [None, "a"])
@pytest.mark.parametrize("new", [None, "a", "b"])
def test_the_channel_id_may_change_together_with_the_account(old, new):
    there = {"account_ref": AccountRef(name="second"), "channel_id": new}
    assert updated(replace(SPEC, channel_id=old), **there) == NOTHING


def test_several_rules_apply_at_once_in_the_order_of_the_table():
    outcome = updated(
        replace(SPEC, channel_id="a"),
        account_exists=False,
        phone_number="+79990001122",
        transport="wapi",
        channel_id="b",
        active=False,
        display_name="Support",
    )
    assert list(outcome.denials) == [
        *("phone-number-changed", "transport-changed", "channel-id-changed")
    ]
    assert list(outcome.warnings) == ["active-switched", "renamed", "account-missing"]


def test_another_spelling_of_the_number_is_refused_too():
    outcome = updated(replace(SPEC, phone_number="+525512345678"), phone_number="+5215512345678")
    sentence = (
        "spec.phoneNumber cannot be changed from +525512345678: +5215512345678 is another spelling"
        " of the same number. Put +525512345678 back."
    )
    assert outcome == Outcome({"phone-number-changed": sentence}, {})


@pytest.mark.parametrize("fields", [{"phone_number": "+79990001122"}, {"transport": "wapi"}])
def test_following_the_advice_works(fields):
    """The old object still declares SPEC."""
    assert created(**fields) == NOTHING
    (sentence,) = updated(SPEC, **fields).denials.values()
    assert "another WazzupChannel" in sentence


IMPOSSIBLE = {
    "Russia, a digit short": "+7986578445",
    "Russia, a digit long": "+798657844577",
    "Russia, with the national prefix 8": "+789865784457",
    "the United Kingdom, with the national prefix 0": "+4407400123456",
    "Germany, with the national prefix 0": "+49015112345678",
    "an unassigned country code": "+99912345678",
    "the United States without an area code": "+15552671",
    "the shortest that the CRD allows": "+1234567",
    "Mexico, a digit short": "+52551234567",
    "Mexico, with the 1, a digit long": "+52155123456789",
    "Argentina, with the 9, a digit long": "+54911987654321",
    "Brazil, two ninth digits": "+55119987654321",
    "Ivory Coast, a digit short of the former length": "+2250712345",
    "Benin, between the former length and the current one": "+229971234567",
}
UNASSIGNED = {
    "Russia": "+70000000000",
    "the United States, the exchange 000": "+14150001234",
    "Mexico, as the numbering plan has it": "+520000000000",
    "Mexico, with the 1": "+5210000000000",
    "Argentina, as a land line": "+540000000000",
    "Argentina, with the 9": "+5490000000000",
    "Brazil, no such area": "+551087654321",
}
FORMER = {
    "Ivory Coast until 2021, mobile": "+22507123456",
    "Ivory Coast until 2021, a land line": "+22520123456",
    "Benin until 2024": "+22997123456",
}
VALID = {
    "Ivory Coast": "+2250712345678",
    "Benin": "+2290197123456",
    "Russia": "+79865784457",
    "the United States": "+14155552671",
    "the United Kingdom": "+447400123456",
    "Germany": "+4915112345678",
    "Mexico, as the numbering plan has it": "+525512345678",
    "Mexico, as WhatsApp has it": "+5215512345678",
    "Argentina, as dialled from abroad": "+5491123456789",
    "Argentina, as dialled within the country": "+541123456789",
    "Brazil, with the ninth digit": "+5511987654321",
    "Brazil, without the ninth digit": "+551187654321",
    "Brazil, a land line": "+551132345678",
}


@pytest.mark.parametrize("number", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_number_that_cannot_exist(number):
    sentence = (
        f"{number} cannot be a phone number: no country has numbers with this prefix and"
        " length. Check the country code and count the digits."
    )
    assert created(phone_number=number) == Outcome({"number-impossible": sentence}, {})


@pytest.mark.parametrize("number", UNASSIGNED.values(), ids=UNASSIGNED)
def test_a_number_in_no_assigned_range(number):
    sentence = f"{number} is in no range of numbers that is known to be assigned. Check the digits."
    assert created(phone_number=number) == Outcome({}, {"number-unassigned": sentence})


@pytest.mark.parametrize("number", FORMER.values(), ids=FORMER)
def test_a_number_of_a_former_length(number):
    sentence = (
        f"{number} has the length that numbers of its country used to have. If Wazzup shows a"
        " longer one, use that instead: spec.phoneNumber cannot be changed later."
    )
    assert created(phone_number=number) == Outcome({}, {"number-unassigned": sentence})


@pytest.mark.parametrize("number", VALID.values(), ids=VALID)
def test_a_valid_number(number):
    assert created(phone_number=number) == NOTHING


def test_the_example_numbers_of_all_countries_pass_without_warning():
    examples = {
        phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        for region in phonenumbers.SUPPORTED_REGIONS
        for type_ in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
        if (example := phonenumbers.example_number_for_type(region, type_))
    }
    assert len(examples) > 400
    assert {number for number in examples if created(phone_number=number) != NOTHING} == set()


@pytest.mark.parametrize("number", [*IMPOSSIBLE.values(), *UNASSIGNED.values()])
def test_a_stored_number_is_not_checked_again(number):
    stored = replace(SPEC, phone_number=number)
    assert not updated(stored, active=False).denials
    assert "number-unassigned" not in updated(stored, active=False).warnings


def taken(holder):
    return (
        f'+79865784457 is already declared by the WazzupChannel "{holder}" in this namespace.'
        " Change that object, or, to replace it, annotate this one with"
        f' wazzup.dev/replaces: "{holder}" and delete "{holder}" afterwards.'
    )


@pytest.mark.parametrize(
    ("holders", "replaces", "named"),
    [
        ([], None, None),
        (["support"], None, "support"),
        (["support"], "support", None),
        (["support"], "sales", "support"),
        (["support"], "", "support"),
        ([], "support", None),
    ],
)
def test_a_number_that_another_object_declares_already(holders, replaces, named):
    denials = {"number-taken": taken(named)} if named else {}
    assert created(holders=holders, replaces=replaces) == Outcome(denials, {})


@pytest.mark.parametrize("replaces", [None, "sales", "support", "shop"])
def test_a_number_that_several_objects_declare_already(replaces):
    """The annotation names only one of them, so it does not help."""
    sentence = (
        '+79865784457 is already declared by the WazzupChannels "sales", "support" in this'
        " namespace. Delete all but one of them (this deletes nothing in Wazzup); then change the"
        " remaining one, or annotate this object with wazzup.dev/replaces and the remaining one's"
        " name."
    )
    outcome = created(holders=["sales", "support"], replaces=replaces)
    assert outcome == Outcome({"number-taken": sentence}, {})


def test_an_update_is_not_checked_for_other_holders():
    spec = replace(SPEC, active=False)
    review = ChannelReview(spec, SPEC, None, State.UNKNOWN)
    assert outcome(review, ["support"]).denials == {}


def test_a_missing_account_warns():
    sentence = (
        'The WazzupAccount "second" does not exist in this namespace. Create it; until then, the'
        " state of this channel is unknown."
    )
    spec = replace(SPEC, account_ref=AccountRef(name="second"))
    warned = Outcome({}, {"account-missing": sentence})
    assert created(spec, account_exists=False) == warned
    assert updated(spec, account_exists=False, channel_id="a") == warned
    assert updated(SPEC, account_exists=False, account_ref=AccountRef(name="second")) == warned


@pytest.mark.parametrize(
    ("to", "action"), [(True, "Enable this one"), (False, "Turn this one off")]
)
def test_switching_active_warns_unless_the_state_matches(to, action):
    sentence = f"The operator cannot switch channels on or off. {action} in Wazzup."
    warned = Outcome({}, {"active-switched": sentence})
    for state, expected in BY_NAME.items():
        found = updated(replace(SPEC, active=not to), active=to, state=State(state))
        as_declared = expected.ready(active=to)[0] == "True"
        assert found == (NOTHING if as_declared else warned), state
    assert created(active=to) == NOTHING


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Support\n", r"Support\n"),
        ("a\tb\x00c\x7fd\x85e", r"a\tb\x00c\x7fd\x85e"),
        ("Поддержка ☎️ \xa0", "Поддержка ☎️ \xa0"),
    ],
)
def test_a_control_character_in_a_warning_is_escaped(name, shown):
    """The API server drops a warning that contains one."""
    (sentence,) = updated(SPEC, display_name=name).warnings.values()
    assert f'Rename this one to "{shown}" in Wazzup' in sentence


@pytest.mark.parametrize(
    ("old", "new", "warned"),
    [
        (None, "Support", True),
        ("Sales", "Support", True),
        ("Support", None, False),
        ("Support", "Support", False),
    ],
)
def test_a_changed_name_warns(old, new, warned):
    sentence = (
        'The operator cannot rename channels. Rename this one to "Support" in Wazzup; until then,'
        " status.drift shows the difference."
    )
    # Changes another field too, because an unchanged spec is not reviewed.
    outcome = updated(replace(SPEC, display_name=old), display_name=new, channel_id="a")
    assert outcome == Outcome({}, {"renamed": sentence} if warned else {})
    assert created(display_name=new) == NOTHING


@pytest.mark.parametrize(
    ("interval", "minimum", "warned"),
    [
        ("60s", 5.0, False),
        ("5s", 5.0, False),
        ("30s", 60.0, True),
        ("1m", 60.0, False),
        ("59s500ms", 60.0, True),
        ("1h", 60.0, False),
    ],
)
def test_an_interval_below_the_minimum_warns(interval, minimum, warned):
    spec = AccountSpec(api_key_secret_ref=SecretKeyRef(name="wazzup"), poll_interval=interval)
    sentence = (
        f"spec.pollInterval {interval} is below this operator's minimum of {minimum:g}s. The"
        " operator uses the minimum instead."
    )
    assert evaluate_account(AccountReview(spec, minimum)) == Outcome(
        {}, {"poll-interval-short": sentence} if warned else {}
    )


numbers = st.one_of(
    st.from_regex(r"\A[1-9][0-9]{6,14}\Z"),
    # More numbers of the three countries with several spellings.
    st.from_regex(r"\A(52|521|54|549|55)[0-9]{8,11}\Z"),
    st.from_regex(r"\A55[0-9]{2}9?[0-9]{8}\Z"),
)


@examples(200)
@given(numbers)
def test_all_spellings_of_a_number_have_one_canonical_form(number):
    found = spellings(f"+{number}")
    assert number in found
    assert found[0] == canonical(number)
    assert len(set(found)) == len(found) <= 2
    for each in found:
        assert canonical(each) == found[0]
        assert spellings(each) == found


@examples(200)
@given(numbers)
def test_all_spellings_of_a_number_have_one_outcome(number):
    outcome = {
        (tuple(outcome.denials), tuple(outcome.warnings))
        for each in spellings(number)
        for outcome in (created(phone_number=f"+{each}"),)
    }
    assert len(outcome) == 1
