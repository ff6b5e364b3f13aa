"""From an account's listing to objects, new and existing."""

import json

import pytest
import yaml

from wazzup_operator.gitops.counted import summary
from wazzup_operator.gitops.export import File, Target, comments, export, stream
from wazzup_operator.wazzup.survey import read_survey

TARGET = Target("default", None, "wazzup")
NUMBER = "79865784457"


def row(channel_id, state="active", number=NUMBER, transport="whatsapp", **more):
    return {
        "channelId": channel_id,
        "transport": transport,
        "plainId": number,
        "state": state,
        **more,
    }


def exported(*rows, target=TARGET, files=None):
    there = [File.of(name, text) for name, text in (files or {}).items()]
    return export(read_survey(json.dumps(rows).encode()), target, there)


def specs(done):
    """Return the specs of new channels, by name."""
    objects = [yaml.safe_load(text) for text in done.new.values()]
    return {
        each["metadata"]["name"]: each["spec"]
        for each in objects
        if each["kind"] == "WazzupChannel"
    }


def test_the_text_of_new_objects():
    done = exported(row("a", name="Поддержка 👍🏽"), row("b", "disabled", "79990001122", "wapi"))
    assert stream(done) == (
        "apiVersion: wazzup.dev/v1\nkind: WazzupAccount\nmetadata:\n  name: default\nspec:\n"
        "  apiKeySecretRef:\n    name: wazzup\n"
        "---\napiVersion: wazzup.dev/v1\nkind: WazzupChannel\nmetadata:\n  name: wapi-1122\nspec:\n"
        '  phoneNumber: "+79990001122"\n  active: false\n  transport: wapi\n'
        "---\napiVersion: wazzup.dev/v1\nkind: WazzupChannel\nmetadata:\n"
        "  name: podderzhka-thumbsup\nspec:\n"
        '  phoneNumber: "+79865784457"\n  displayName: "Поддержка 👍🏽"\n'
    )


def test_the_names_of_the_target():
    done = exported(row("a", name="on"), target=Target("true", "shop", "wazzup-2"))
    account, channel = (yaml.safe_load(text) for text in done.new.values())
    assert list(done.new) == ["account-true.yaml", "channel-on.yaml"]
    assert account["metadata"] == {"name": "true", "namespace": "shop"}
    assert account["spec"] == {"apiKeySecretRef": {"name": "wazzup-2"}}
    assert channel["metadata"] == {"name": "on", "namespace": "shop"}
    assert channel["spec"]["accountRef"] == {"name": "true"}


CHOICES = {
    "the active one": (["disabled", "qridle", "active"], 2),
    "the first of several active ones": (["disabled", "active", "active"], 1),
    "the only one that is not disabled": (["disabled", "qridle", "disabled"], 1),
    "else the first": (["disabled", "qridle", "init"], 0),
    "the first of disabled ones": (["disabled", "disabled"], 0),
}


@pytest.mark.parametrize(("states", "chosen"), CHOICES.values(), ids=CHOICES)
def test_which_channel_of_a_number_is_declared(states, chosen):
    done = exported(*(row(f"id-{index}", state) for index, state in enumerate(states)))
    (spec,) = specs(done).values()
    assert spec["channelID"] == f"id-{chosen}"
    assert spec.get("active", True) == (states[chosen] != "disabled")
    text = comments(done)
    assert text.splitlines()[1] == "# Other channels of numbers that are exported:"
    for index, state in enumerate(states):
        assert (f"id-{index} whatsapp {NUMBER} ({state})" in text) == (index != chosen)


def test_a_single_channel_has_no_id_in_its_object():
    (spec,) = specs(exported(row("a"), row("b", transport="wapi", number="1"))).values()
    assert spec == {"phoneNumber": "+79865784457"}


@pytest.mark.parametrize("name", ["", None, "a\x7f", "a\x85", "a\x9f", "a\uffff"])
def test_a_name_that_no_object_can_have(name):
    (spec,) = specs(exported(row("a", name=name))).values()
    assert "displayName" not in spec
    files = {"a.yaml": kept(spec="  displayName: Sales\n"), "b.yaml": account()}
    assert exported(row("a", name=name), files=files).changed == {}


def test_spellings_of_one_number():
    done = exported(row("a", number="525512345678"), row("b", "qridle", "5215512345678"))
    assert [each["channelID"] for each in specs(done).values()] == ["a"]


def test_what_is_left_out():
    done = exported(
        row("no-number", number=None),
        row("empty", number="", name="a\nb"),
        row("letters", number="79865@c.us"),
        row("zero", number="0123456789"),
        row("nowhere", number="99912345678"),
        row("bot", transport="telegram", name="Bot #1\n- x"),
        row("odd", transport="a\nb"),
        row("twice"),
        row("twice", "qridle"),
        {"channelId": "broken"},
    )
    assert specs(done) == {}
    text = comments(done)
    assert text.splitlines() == [
        "# In the Wazzup account, but not exported:",
        "# Channels whose number cannot be declared:",
        '# - letters whatsapp 79865@c.us (active): spec.phoneNumber "+79865@c.us" is not a phone'
        " number in E.164 form: write a plus sign, the country code and the number, 7 to 15 digits"
        " without spaces, for example +79865784457.",
        "# - nowhere whatsapp 99912345678 (active): +99912345678 cannot be a phone number: no"
        " country has numbers with this prefix and length. Check the country code and count the"
        " digits.",
        '# - zero whatsapp 0123456789 (active): spec.phoneNumber "+0123456789" is not a phone'
        " number in E.164 form: write a plus sign, the country code and the number, 7 to 15 digits"
        " without spaces, for example +79865784457.",
        "#",
        "# Channels without a number:",
        '# - empty whatsapp "a\\nb" (active)',
        "# - no-number whatsapp (active)",
        "#",
        "# Channels of other transports:",
        '# - bot telegram "Bot #1\\n- x"',
        "# - odd a\\nb",
        "#",
        "# Ambiguous rows, which the operator skips:",
        "# - broken",
        "# - twice",
    ]
    assert stream(done).endswith("---\n" + text)
    assert yaml.safe_load(text) is None


def kept(name="support", spec="", metadata=""):
    return (
        "# ours\napiVersion: wazzup.dev/v1\nkind: WazzupChannel\nmetadata:\n"
        f"  name: {name}\n{metadata}spec:\n  phoneNumber: '+{NUMBER}' # Ann\n{spec}"
    )


EXISTING = {
    "nothing to change": ("", [row("a", name="Sales")], None),
    "the name it has": ("  displayName: Sales\n", [row("a", name="Sales")], None),
    "another name": (
        "  displayName: Sales # !\n",
        [row("a", name="Shop")],
        '  displayName: "Shop" # !\n',
    ),
    "no name in Wazzup": ("  displayName: Sales\n", [row("a")], None),
    "turned off in Wazzup": ("", [row("a", "disabled")], "  active: false\n"),
    "turned on in Wazzup": ("  active: no\n", [row("a")], "  active: true\n"),
    "off as declared": ("  active: false\n", [row("a", "disabled")], None),
    "declared off, not connected": ("  active: false\n", [row("a", "qridle")], None),
    "declared off, waiting": ("  active: false\n", [row("a", "init")], "  active: true\n"),
    "declared on, not connected": ("  active: true\n", [row("a", "qridle")], None),
    "a second channel": (
        "",
        [row("a", "disabled"), row("b", "qridle")],
        '  channelID: "b"\n',
    ),
    "the declared one of two": (
        "  channelID: a\n",
        [row("a", "qridle"), row("b", "active")],
        None,
    ),
    "a declared one that is off": (
        "  channelID: a\n  active: true\n",
        [row("a", "disabled"), row("b", "active")],
        "  channelID: a\n  active: false\n",
    ),
}


@pytest.mark.parametrize(("before", "rows", "after"), EXISTING.values(), ids=EXISTING)
def test_an_existing_object_changes_only_where_wazzup_contradicts_it(before, rows, after):
    files = {"a.yaml": kept(spec=before), "b.yaml": account()}
    done = exported(*rows, files=files)
    assert (done.new, done.notes, done.failures) == ({}, [], [])
    assert done.changed == ({} if after is None else {"a.yaml": kept(spec=after)})
    assert done.unchanged == 2 - len(done.changed)
    again = exported(*rows, files={**files, **done.changed})
    assert (again.new, again.changed, again.unchanged) == ({}, {}, 2)
    left_out = "b" if "channelID: a" in before else "a"
    assert (f"- {left_out} whatsapp" in comments(done)) == (len(rows) == 2)


def account(name="default"):
    return (
        "apiVersion: wazzup.dev/v1\nkind: WazzupAccount\n"
        f"metadata: {{name: {name}}}\nspec: {{apiKeySecretRef: {{name: wazzup}}}}\n"
    )


@pytest.mark.parametrize("channel_id", ["", "  channelID: gone\n", "  channelID: other\n"])
def test_an_object_whose_channel_is_not_listed_is_left_alone(channel_id):
    rows = [row("a", "disabled")] if channel_id else []
    rows.append(row("other", "disabled", "79990001122"))
    done = exported(*rows, files={"a.yaml": kept(spec=channel_id), "b.yaml": account()})
    assert done.changed == {}
    assert done.notes == [
        'a.yaml: WazzupChannel "support" was left as it is, because Wazzup does not list its'
        " channel."
    ]


def test_several_objects_in_one_file():
    numbers = {"gone": "79990003344", "one": NUMBER, "two": "79990001122"}
    objects = [kept(name).replace(NUMBER, number) for name, number in numbers.items()]
    text = "---\n".join([*objects, account()])
    done = exported(row("a", "disabled"), row("b", "disabled", "79990001122"), files={"all": text})
    assert done.new == {}
    assert done.changed["all"].count("Ann\n  active: false\n") == 2
    assert done.off == 2


def test_names_that_exist_are_not_given_again():
    files = {"x.yaml": kept("sales"), "channel-shop.yaml": account()}
    rows = [
        row("b", number="79990001122", name="Sales"),
        row("c", number="79990003344", name="Shop"),
    ]
    assert specs(exported(*rows, files=files)).keys() == {"sales-1122", "shop-3344"}


@pytest.mark.parametrize(
    ("metadata", "spec", "namespace", "is_new"),
    [
        ("", "", None, False),
        ("", "", "shop", False),
        ("  namespace: shop\n", "", "shop", False),
        ("  namespace: shop\n", "", None, False),
        ("  namespace: other\n", "", "shop", True),
        ("", "  accountRef: {name: second}\n", None, True),
    ],
)
def test_which_existing_objects_belong_to_the_account(metadata, spec, namespace, is_new):
    files = {"a.yaml": kept(metadata=metadata, spec=spec), "b.yaml": account()}
    done = exported(row("a", "disabled"), target=Target("default", namespace, "x"), files=files)
    assert bool(done.new) == is_new
    assert bool(done.changed) != is_new


def test_another_account_in_the_folder():
    done = exported(files={"b.yaml": account("second")})
    assert list(done.new) == ["account-default.yaml"]


def test_what_cannot_be_changed_alone_is_said():
    text = "kind: List\nitems:\n- &off false\n- " + json.dumps(
        yaml.safe_load(kept(spec="  active: 0ff\n  displayName: Sales\n"))
    ).replace('"0ff"', "*off")
    done = exported(row("a", name="Shop"), files={"a.yaml": text, "b.yaml": account()})
    assert done.changed == {}
    assert done.failures == [
        'a.yaml: WazzupChannel "support" cannot be changed without rewriting the file. Set'
        ' spec.active to true, spec.displayName to "Shop" by hand.'
    ]


def test_the_summary():
    rows = [
        row("a", "frozen", "79990001122", tariff=1),
        row("b", "frozen", "79990001133", limits={}),
        row("c", "disabled", "79990001144"),
        row("d", transport="telegram"),
        row("e", number=None, name="x" * 300),
    ]
    survey = read_survey(json.dumps(rows).encode())
    done = export(survey, TARGET, [])
    assert list(summary(survey, done, to_folder=True)) == [
        "Channels in Wazzup: 5. Declared: 3, 1 of them off.",
        "Left out: 1 (channels without a number).",
        "Left out: 1 (channels of other transports).",
        "States in Wazzup: 'frozen' 2, 'active' 1, 'disabled' 1.",
        "States that this version does not know: 'frozen' 2.",
        "Fields that this version does not know: 'limits', 'tariff'.",
        "Names or states that were too long and are truncated: 1.",
        "Files: 4 new, 0 changed, 0 unchanged.",
    ]
    empty = read_survey(b"[]")
    assert list(summary(empty, export(empty, TARGET, []), to_folder=False)) == [
        "Channels in Wazzup: 0. Declared: 0, 0 of them off.",
        "This version knows every state and field.",
    ]


def test_the_order_of_the_listing_does_not_matter():
    rows = [row(f"{n}", number=f"7999000{n}", name="Same") for n in range(1000, 1020)]
    rows += [row(f"same-{n}") for n in range(3)]
    rows += [row(f"none-{n}", number=None) for n in range(3)]
    rows += [row(f"bot-{n}", transport="telegram") for n in range(3)]
    assert stream(exported(*rows)) == stream(exported(*reversed(rows)))
