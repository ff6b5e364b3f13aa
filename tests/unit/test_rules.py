"""The rules of admission: whom each concerns, what it says, and whom it leaves alone."""

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
    AccountReview,
    ChannelReview,
    Judgement,
    ValidationAction,
    judge_account,
    judge_channel,
)
from wazzup_operator.domain.phone import canonical, spellings
from wazzup_operator.domain.states import State
from wazzup_operator.resources.account import AccountSpec, SecretKeyRef
from wazzup_operator.resources.channel import AccountRef, ChannelSpec

SPEC = ChannelSpec(phone_number=PHONE)
NOTHING = Judgement({}, {})


def created(spec=SPEC, *, replaces=None, holders=(), account_exists=True, **fields):
    """Return what the rules say of a new object."""
    spec = replace(spec, **fields)
    return judge_channel(
        ChannelReview(spec, None, replaces, holders, account_exists, State.UNKNOWN)
    )


def updated(old, account_exists=True, state=State.UNKNOWN, **fields):
    """Return what the rules say of a change of these fields."""
    new = replace(old, **fields)
    return judge_channel(ChannelReview(new, old, None, (), account_exists, state))


def test_the_ids_are_unique_and_each_summary_is_a_sentence():
    rules = [*CHANNEL_RULES, *ACCOUNT_RULES]
    assert len({rule.id for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.summary[-1] == "."
        assert rule.id == rule.id.lower()


def test_what_is_refused_and_what_is_warned_of():
    actions = {rule.id: rule.action for rule in [*CHANNEL_RULES, *ACCOUNT_RULES]}
    assert {id_ for id_, action in actions.items() if action is ValidationAction.DENY} == {
        "phone-number-changed",
        "transport-changed",
        "channel-id-changed",
        "number-impossible",
        "number-taken",
    }


def test_a_new_object_without_fault_passes_in_silence():
    assert created() == NOTHING


CHANGED = [
    (
        "phone-number-changed",
        {"phone_number": "+79990001122"},
        "spec.phoneNumber cannot be changed from +79865784457: a channel keeps its number for ever."
        " To use a new number, create another WazzupChannel for the new one, and set spec.active to"
        " false here to stop using the old one.",
    ),
    (
        "transport-changed",
        {"transport": "wapi"},
        "spec.transport cannot be changed from whatsapp: create another WazzupChannel for the new"
        " one, and set spec.active to false here.",
    ),
    (
        "channel-id-changed",
        {"channel_id": "b"},
        "spec.channelID cannot be changed or taken away once it is set, unless spec.accountRef"
        " changes too; it is a. Put it back, or delete this object and create it anew: deleting it"
        " deletes nothing in Wazzup.",
    ),
    (
        "channel-id-changed",
        {"channel_id": None},
        "spec.channelID cannot be changed or taken away once it is set, unless spec.accountRef"
        " changes too; it is a. Put it back, or delete this object and create it anew: deleting it"
        " deletes nothing in Wazzup.",
    ),
]


@pytest.mark.parametrize(("rule", "fields", "sentence"), CHANGED)
def test_a_changed_identity_is_refused(rule, fields, sentence):
    assert updated(replace(SPEC, channel_id="a"), **fields) == Judgement({rule: sentence}, {})


@pytest.mark.parametrize(("rule", "fields"), [case[:2] for case in CHANGED])
def test_whatever_is_refused_when_changed_may_be_chosen_at_first(rule, fields):
    assert created(**fields) == NOTHING


def test_a_channel_id_may_be_set_later():
    assert updated(SPEC, channel_id="a") == NOTHING


@pytest.mark.parametrize("old", [None, "a"])
@pytest.mark.parametrize("new", [None, "a", "b"])
def test_another_account_takes_the_object_with_an_id_of_its_own(old, new):
    there = {"account_ref": AccountRef(name="second"), "channel_id": new}
    assert updated(replace(SPEC, channel_id=old), **there) == NOTHING


def test_several_faults_are_told_at_once_in_the_order_of_the_table():
    said = updated(
        replace(SPEC, channel_id="a"),
        account_exists=False,
        phone_number="+79990001122",
        transport="wapi",
        channel_id="b",
        active=False,
        display_name="Support",
    )
    assert list(said.denials) == [
        *("phone-number-changed", "transport-changed", "channel-id-changed")
    ]
    assert list(said.warnings) == ["account-missing", "active-switched", "renamed"]


def test_one_number_in_two_spellings_is_a_change_all_the_same():
    said = updated(replace(SPEC, phone_number="+525512345678"), phone_number="+5215512345678")
    sentence = (
        "spec.phoneNumber cannot be changed from +525512345678: +5215512345678 is another spelling"
        " of the same number and says nothing new. Put the old one back."
    )
    assert said == Judgement({"phone-number-changed": sentence}, {})


@pytest.mark.parametrize("fields", [{"phone_number": "+79990001122"}, {"transport": "wapi"}])
def test_who_follows_the_advice_is_let_in(fields):
    """The old object is still there and declares SPEC."""
    assert created(**fields) == NOTHING
    (sentence,) = updated(SPEC, **fields).denials.values()
    assert "create another WazzupChannel" in sentence


IMPOSSIBLE = {
    "Russia, a digit short": "+7986578445",
    "Russia, a digit long": "+798657844577",
    "Russia, with the 8 of a call at home": "+789865784457",
    "the United Kingdom, with the 0 of a call at home": "+4407400123456",
    "Germany, with the 0 of a call at home": "+49015112345678",
    "a country code that nobody has": "+99912345678",
    "the United States without an area code": "+15552671",
    "the shortest that the CRD lets in": "+1234567",
    "Mexico, a digit short": "+52551234567",
    "Mexico, with the 1, a digit long": "+52155123456789",
    "Argentina, with the 9, a digit long": "+54911987654321",
    "Brazil, two ninth digits": "+55119987654321",
    "Ivory Coast, a digit short of the former form": "+2250712345",
    "Benin, between the former form and the present one": "+229971234567",
}
DOUBTFUL = {
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
    "Argentina, as dialled at home": "+541123456789",
    "Brazil, with the ninth digit": "+5511987654321",
    "Brazil, without it": "+551187654321",
    "Brazil, a land line": "+551132345678",
}


@pytest.mark.parametrize("number", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_number_that_cannot_exist(number):
    sentence = (
        f"{number} cannot be a phone number: no country has numbers that begin like this and are"
        " as long. Check the country code and count the digits."
    )
    assert created(phone_number=number) == Judgement({"number-impossible": sentence}, {})


@pytest.mark.parametrize("number", DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_number_that_nobody_gives_out(number):
    sentence = (
        f"{number} has the right length, but no phone company is known to give out such numbers."
    )
    assert created(phone_number=number) == Judgement({}, {"number-doubtful": sentence})


@pytest.mark.parametrize("number", FORMER.values(), ids=FORMER)
def test_a_number_as_its_country_had_them_before(number):
    sentence = (
        f"{number} is as long as this country's numbers were before they got more digits. If Wazzup"
        " shows it in its present form, create the object with that one instead: the number of an"
        " object cannot be changed."
    )
    assert created(phone_number=number) == Judgement({}, {"number-doubtful": sentence})


@pytest.mark.parametrize("number", VALID.values(), ids=VALID)
def test_a_number_as_it_should_be(number):
    assert created(phone_number=number) == NOTHING


def test_no_country_s_own_example_is_refused_or_doubted():
    examples = {
        phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        for region in phonenumbers.SUPPORTED_REGIONS
        for type_ in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
        if (example := phonenumbers.example_number_for_type(region, type_))
    }
    assert len(examples) > 400
    assert {number for number in examples if created(phone_number=number) != NOTHING} == set()


@pytest.mark.parametrize("number", [*IMPOSSIBLE.values(), *DOUBTFUL.values()])
def test_a_number_that_is_stored_already_is_nobody_s_concern(number):
    stored = replace(SPEC, phone_number=number)
    assert not updated(stored, active=False).denials
    assert "number-doubtful" not in updated(stored, active=False).warnings


def taken(holder):
    return (
        f'The WazzupChannel "{holder}" of this namespace declares +79865784457, and one phone'
        " number is one channel. Change that object instead; or, if this one is to take its place,"
        f' annotate this one with wazzup.dev/replaces: "{holder}" and delete that one afterwards.'
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
def test_a_number_that_another_object_declares(holders, replaces, named):
    denials = {"number-taken": taken(named)} if named else {}
    assert created(holders=holders, replaces=replaces) == Judgement(denials, {})


@pytest.mark.parametrize("replaces", [None, "sales", "support", "shop"])
def test_a_number_that_several_objects_declare(replaces):
    """Whichever of them the annotation names, another one would be in the way."""
    sentence = (
        'The WazzupChannels "sales", "support" of this namespace declare +79865784457, and one'
        " phone number is one channel. Delete all of them but one first, which deletes nothing in"
        " Wazzup; then change that one instead, or annotate this one with wazzup.dev/replaces and"
        " its name."
    )
    said = created(holders=["sales", "support"], replaces=replaces)
    assert said == Judgement({"number-taken": sentence}, {})


def test_who_holds_the_number_counts_for_new_objects_only():
    spec = replace(SPEC, active=False)
    review = ChannelReview(spec, SPEC, None, ["support"], True, State.UNKNOWN)
    assert judge_channel(review).denials == {}


def test_an_account_that_is_yet_to_come():
    sentence = (
        'There is no WazzupAccount "second" in this namespace yet; until there is, nothing can be'
        " told of this channel."
    )
    spec = replace(SPEC, account_ref=AccountRef(name="second"))
    warned = Judgement({}, {"account-missing": sentence})
    assert created(spec, account_exists=False) == warned
    assert updated(spec, account_exists=False, channel_id="a") == warned
    assert updated(SPEC, account_exists=False, account_ref=AccountRef(name="second")) == warned


@pytest.mark.parametrize(("to", "done"), [(True, "enable"), (False, "turn off")])
def test_active_is_switched(to, done):
    said = f"The operator cannot switch channels: a person has to {done} this one in Wazzup."
    warned = Judgement({}, {"active-switched": said})
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
def test_a_control_character_is_told_in_letters(name, shown):
    """The API server drops a warning with one in it."""
    (sentence,) = updated(SPEC, display_name=name).warnings.values()
    assert f'has to name this one "{shown}" in Wazzup' in sentence


@pytest.mark.parametrize(
    ("old", "new", "warned"),
    [
        (None, "Support", True),
        ("Sales", "Support", True),
        ("Support", None, False),
        ("Support", "Support", False),
    ],
)
def test_the_name_is_changed(old, new, warned):
    sentence = (
        'The operator cannot rename channels: a person has to name this one "Support" in Wazzup;'
        " until then status.drift shows the difference."
    )
    # Something else is changed too: an unchanged spec is not looked at.
    said = updated(replace(SPEC, display_name=old), display_name=new, channel_id="a")
    assert said == Judgement({}, {"renamed": sentence} if warned else {})
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
def test_an_interval_below_the_minimum(interval, minimum, warned):
    spec = AccountSpec(api_key_secret_ref=SecretKeyRef(name="wazzup"), poll_interval=interval)
    sentence = (
        f"spec.pollInterval {interval} is below this operator's minimum of {minimum:g}s, which is"
        " used instead."
    )
    assert judge_account(AccountReview(spec, minimum)) == Judgement(
        {}, {"poll-interval-short": sentence} if warned else {}
    )


numbers = st.one_of(
    st.from_regex(r"\A[1-9][0-9]{6,14}\Z"),
    # The three countries with spellings, more often than chance would have them.
    st.from_regex(r"\A(52|521|54|549|55)[0-9]{8,11}\Z"),
    st.from_regex(r"\A55[0-9]{2}9?[0-9]{8}\Z"),
)


@examples(200)
@given(numbers)
def test_all_spellings_of_a_number_are_one(number):
    found = spellings(f"+{number}")
    assert number in found
    assert found[0] == canonical(number)
    assert len(set(found)) == len(found) <= 2
    for each in found:
        assert canonical(each) == found[0]
        assert spellings(each) == found


@examples(200)
@given(numbers)
def test_every_spelling_of_a_number_gets_one_verdict(number):
    said = {
        (tuple(judgement.denials), tuple(judgement.warnings))
        for each in spellings(number)
        for judgement in (created(phone_number=f"+{each}"),)
    }
    assert len(said) == 1
