"""What the API server, the webhook and `wazzup-operator check` say about objects.

The tables feed the tests of all three.
"""

from typing import NamedTuple

from tests.integration.harness.api import JSON, account, channel

PHONE = "+79865784457"
OTHER_PHONE = "+79990001122"
IMPOSSIBLE = "+99912345678"

SHORT_INTERVAL = (
    "spec.pollInterval 10s is below this operator's minimum of 30s. The operator uses the minimum"
    " instead."
)
TAKEN = (
    f'{PHONE} is already declared by the WazzupChannel "support" in this namespace. Change that'
    ' object, or, to replace it, annotate this one with wazzup.dev/replaces: "support" and delete'
    ' "support" afterwards.'
)
DENIED_NEW = {
    "number-impossible": (
        channel("new", IMPOSSIBLE),
        f"{IMPOSSIBLE} cannot be a phone number: no country has numbers with this prefix and"
        " length. Check the country code and count the digits.",
    ),
    "number-taken": (channel("new", PHONE), TAKEN),
}
WARNED_NEW = {
    "number-unassigned": (
        channel("new", "+70000000000"),
        "+70000000000 is in no range of numbers that is known to be assigned. Check the digits.",
    ),
    "account-missing": (
        channel("new", OTHER_PHONE, accountRef={"name": "second"}),
        'The WazzupAccount "second" does not exist in this namespace. Create it; until then, the'
        " state of this channel is unknown.",
    ),
    "poll-interval-short": (account("new", pollInterval="10s"), SHORT_INTERVAL),
}


class Changed(NamedTuple):
    """A change of a WazzupChannel's spec, and the sentence about it."""

    old: JSON
    new: JSON
    sentence: str


DENIED_CHANGES = {
    "phone-number-changed": Changed(
        {},
        {"phoneNumber": OTHER_PHONE},
        f"spec.phoneNumber cannot be changed from {PHONE}. To use a new number, create another"
        " WazzupChannel with it and set spec.active to false in this one.",
    ),
    "transport-changed": Changed(
        {},
        {"transport": "wapi"},
        "spec.transport cannot be changed from whatsapp. Create another WazzupChannel with wapi,"
        " and set spec.active to false in this one.",
    ),
    "channel-id-changed": Changed(
        {"channelID": "one"},
        {"channelID": "two"},
        "spec.channelID cannot be changed from one or removed unless spec.accountRef changes in"
        " the same edit. Put it back, or recreate this object (this deletes nothing in Wazzup); if"
        " you changed spec.accountRef before, change it back, then change both in one edit.",
    ),
}
WARNED_CHANGES = {
    "active-switched": Changed(
        {},
        {"active": False},
        "The operator cannot switch channels on or off. Turn this one off in Wazzup.",
    ),
    "active-switched (on)": Changed(
        {"active": False},
        {"active": True},
        "The operator cannot switch channels on or off. Enable this one in Wazzup.",
    ),
    "renamed": Changed(
        {},
        {"displayName": "Support"},
        'The operator cannot rename channels. Rename this one to "Support" in Wazzup; until then,'
        " status.drift shows the difference.",
    ),
    "account-missing": Changed(
        {},
        {"channelID": "one"},
        'The WazzupAccount "default" does not exist in this namespace. Create it; until then, the'
        " state of this channel is unknown.",
    ),
    "account-missing (the new one)": Changed(
        {},
        {"accountRef": {"name": "second"}},
        'The WazzupAccount "second" does not exist in this namespace. Create it; until then, the'
        " state of this channel is unknown.",
    ),
}

E164 = "7 to 15 digits"
PLUS_LOST = "YAML and helm --set drop the plus sign"
BAD_FIELDS = {
    # spec in YAML; words of the refusal
    "spaces": ("phoneNumber: '+7 986 578 44 57'", E164),
    "no-plus": ("phoneNumber: '79865784457'", PLUS_LOST),
    "float": ("phoneNumber: 7.9865784457e+10", "must be of type string"),
    "float-in-quotes": ("phoneNumber: '7.9865784457e+10'", PLUS_LOST),
    "plus-zero": ("phoneNumber: '+09865784457'", E164),
    "too-short": ("phoneNumber: '+798657'", E164),
    "too-long": ("phoneNumber: '+7986578445712345'", E164),
    "empty": ("phoneNumber: ''", E164),
    "line-break": ('phoneNumber: "+79865784457\\n"', E164),
    "full-width-digit": ('phoneNumber: "+7986578445\uff17"', E164),
    "thousand": (f"phoneNumber: '+{'7' * 999}'", "Too long"),
    "number-without-quotes": ("phoneNumber: +79865784457", "must be of type string"),
    "transport": (
        f"phoneNumber: '{PHONE}'\n  transport: telegram",
        'Unsupported value: "telegram": supported values: "whatsapp", "wapi"',
    ),
    "active": (f"phoneNumber: '{PHONE}'\n  active: 'on'", "must be of type boolean"),
    "misspelt": ("phonenumber: '+79865784457'", 'unknown field "spec.phonenumber"'),
}
BAD_INTERVALS = ["", "5", "1d", "-5s", "4999ms", "1h1ms", "5s\n", "99999999999999999999h"]
