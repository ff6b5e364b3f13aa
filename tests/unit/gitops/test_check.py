"""What `check` finds in objects."""

import json

import pytest
import yaml

from tests.admission_cases import (
    BAD_FIELDS,
    BAD_INTERVALS,
    DENIED_CHANGES,
    DENIED_NEW,
    IMPOSSIBLE,
    OTHER_PHONE,
    PHONE,
    WARNED_CHANGES,
    WARNED_NEW,
)
from tests.integration.harness.api import account, channel
from wazzup_operator.admission.rules import (
    ACCOUNT_RULES,
    CHANNEL_RULES,
    LOOKUP_RULES,
    ValidationAction,
)
from wazzup_operator.gitops.check import check, declared
from wazzup_operator.gitops.manifests import read

STORED = [account(pollInterval="60s"), channel("support", PHONE)]


def manifests(*bodies):
    """Return objects as if each were in a file of its own: f0, f1 ..."""
    return [
        each
        for number, body in enumerate(bodies)
        for each in read(f"f{number}", body if isinstance(body, str) else json.dumps(body))
    ]


def found(*bodies, base=()):
    """Return the problems, with the objects at the base."""
    former = {each.key: each.spec for each in map(declared, manifests(*base)) if each}
    return check(manifests(*bodies), former)


def errors(*bodies, base=()):
    return [each for each in found(*bodies, base=base) if each.severity == "error"]


def written(spec, **metadata):
    """Return a channel with a spec as it is written in YAML."""
    return (
        "apiVersion: wazzup.dev/v1\nkind: WazzupChannel\n"
        f"metadata: {json.dumps({'name': 'support', **metadata})}\nspec:\n  {spec}\n"
    )


@pytest.mark.parametrize("rule", DENIED_NEW)
def test_a_new_object_that_the_webhook_refuses(rule):
    body, sentence = DENIED_NEW[rule]
    (problem,) = errors(*STORED, body)
    assert problem.rule == rule
    assert problem.message.startswith(f'{body["kind"]} "new": {sentence}')
    assert problem.file == "f2"


@pytest.mark.parametrize("rule", DENIED_CHANGES)
def test_a_change_that_the_webhook_refuses(rule):
    case = DENIED_CHANGES[rule]
    old = channel("support", PHONE, **case.old)
    new = channel("support", PHONE)
    new["spec"] |= case.new
    (problem,) = errors(STORED[0], new, base=[STORED[0], old])
    assert (problem.rule, problem.message) == (rule, f'WazzupChannel "support": {case.sentence}')
    assert errors(STORED[0], new) == []


def test_every_rule_that_refuses_has_a_case():
    rules = (*CHANNEL_RULES, *LOOKUP_RULES, *ACCOUNT_RULES)
    refusing = {each.id for each in rules if each.action is ValidationAction.DENY}
    assert refusing == DENIED_NEW.keys() | DENIED_CHANGES.keys()


NEEDS_A_CLUSTER = {"poll-interval-short"}  # the operator's minimum


@pytest.mark.parametrize("rule", sorted(WARNED_NEW.keys() - NEEDS_A_CLUSTER))
def test_a_new_object_that_the_webhook_warns_about(rule):
    (problem,) = found(*STORED, WARNED_NEW[rule][0])
    assert (problem.rule, problem.severity) == (rule, "warning")


@pytest.mark.parametrize("case", WARNED_CHANGES)
def test_a_change_that_the_webhook_warns_about(case):
    change = WARNED_CHANGES[case]
    old, new = channel("support", PHONE, **change.old), channel("support", PHONE, **change.new)
    there = [] if case.startswith("account-missing") else STORED[:1]
    (problem,) = found(*there, new, base=[*there, old])
    assert problem.severity == "warning"
    assert problem.rule == case.partition(" ")[0]
    if problem.rule != "account-missing":
        assert problem.message == f'WazzupChannel "support": {change.sentence}'


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_channel_that_the_api_server_refuses(name):
    problems = errors(written(BAD_FIELDS[name][0]))
    assert problems
    assert {each.rule for each in problems} == {"schema"}
    for each in problems:
        assert each.message.startswith('WazzupChannel "support": ')
        assert "\\." not in each.message, "a pattern"


@pytest.mark.parametrize("interval", BAD_INTERVALS)
def test_an_interval_that_the_api_server_refuses(interval):
    (problem,) = errors(account(pollInterval=interval))
    assert "is not a duration from 5s to 1h; write one such as 30s, 5m or 1h" in problem.message


SENTENCES = [
    (
        "phoneNumber: +447700900111",
        "spec.phoneNumber must be a string, but YAML reads +447700900111 as a number; write"
        ' "+447700900111".',
    ),
    (
        "phoneNumber: 447700900111",
        "spec.phoneNumber must be a string, but YAML reads 447700900111 as a number; write"
        ' "+447700900111".',
    ),
    (
        "phoneNumber: 4.47700900111e+11",
        "spec.phoneNumber must be a string, but YAML reads 4.47700900111e+11 as a number; write"
        ' "+447700900111".',
    ),
    (
        "phoneNumber: 'ж'",
        'spec.phoneNumber "ж" is not a phone number in E.164 form: write a plus sign, the country'
        " code and the number, 7 to 15 digits without spaces, for example +79865784457.",
    ),
    (
        "phoneNumber: '79865784457'",
        'spec.phoneNumber "79865784457" is not a phone number in E.164 form: YAML and helm --set'
        ' drop the plus sign of a number without quotes. Write "+79865784457" with the quotes, in'
        " files and templates, and use helm --set-string.",
    ),
    ("active: true", "spec.phoneNumber is missing."),
    (
        f"{{phoneNumber: '{PHONE}', displayName: on}}",
        'spec.displayName must be a string, but YAML reads on as a boolean; write "on".',
    ),
    (
        f"{{phoneNumber: '{PHONE}', displayName: {'x' * 257}}}",
        "spec.displayName has 257 characters; at most 256 fit.",
    ),
    (
        f"{{phoneNumber: '{PHONE}', displayname: x}}",
        'unknown field "spec.displayname" (did you mean "displayName"?).',
    ),
    (f"{{phoneNumber: '{PHONE}', secret: x}}", 'unknown field "spec.secret".'),
    (
        f"{{phoneNumber: '{PHONE}', active: 1}}",
        "spec.active must be true or false, without quotes.",
    ),
    (f"{{phoneNumber: '{PHONE}', accountRef: sales}}", "spec.accountRef must be a mapping."),
    (
        f"{{phoneNumber: '{PHONE}', accountRef: {{name: Sales}}}}",
        "spec.accountRef.name must be the name of a WazzupAccount in this namespace: lower-case"
        " letters, digits, dots and hyphens.",
    ),
    (
        f"{{phoneNumber: '{PHONE}', transport: telegram}}",
        'spec.transport "telegram" is not one of whatsapp, wapi.',
    ),
    (
        f'{{phoneNumber: "{PHONE}", displayName: "a\\x7f"}}',
        "spec.displayName contains a control character, which a server-side apply refuses or"
        " changes; remove it.",
    ),
    (
        f"{{phoneNumber: '{PHONE}', accountRef: {{name: ''}}}}",
        "spec.accountRef.name is empty; write a value or remove the field.",
    ),
    ("[]", "spec must be a mapping."),
    ("null", "spec has no value; write one or remove the field."),
]


@pytest.mark.parametrize(("spec", "sentence"), SENTENCES)
def test_the_sentence_about_a_field(spec, sentence):
    (problem,) = errors(written(spec))
    assert problem.message == f'WazzupChannel "support": {sentence}'


METADATA = [
    ({"name": "Имя"}, 'metadata.name "Имя" is not valid; use lower-case letters, digits'),
    ({"generateName": "A-"}, 'metadata.generateName "A-" is not valid; use lower-case letters'),
    ({"name": None}, "metadata.name has no value"),
    ({"name": 7}, 'metadata.name must be a string, but YAML reads 7 as a number; write "7"'),
    ({"namespace": "a.b"}, 'metadata.namespace "a.b" is not valid; use lower-case letters'),
    ({"labelz": {}}, 'unknown field "metadata.labelz" (did you mean "labels"?)'),
    ({"labels": {"a": "b c"}}, 'metadata.labels.a "b c" is not valid; use letters'),
    ({"labels": {"a": 1}}, "metadata.labels.a must be a string, but YAML reads 1 as a number"),
    ({"labels": {"a b": "c"}}, 'metadata.labels has an invalid key "a b"'),
    (
        {"annotations": {"wazzup.dev/paused": True}},
        "metadata.annotations.wazzup.dev/paused must be a string, but YAML reads true as a"
        ' boolean; write "true"',
    ),
]


@pytest.mark.parametrize(("metadata", "sentence"), METADATA)
def test_metadata_that_the_api_server_refuses(metadata, sentence):
    problems = errors(written(f"phoneNumber: '{PHONE}'", **metadata))
    assert any(sentence in each.message for each in problems), problems


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"app.kubernetes.io/name": "x", "empty": ""}, "annotations": {"a/b": "c\n d"}},
        {"labels": None, "annotations": None},
        {"uid": "x", "resourceVersion": "1", "generation": 2, "managedFields": [{}]},
    ],
)
def test_metadata_that_the_api_server_accepts(metadata):
    assert errors(written(f"phoneNumber: '{PHONE}'", **metadata)) == []


@pytest.mark.parametrize("empty", ["null", "''", ""])
def test_an_optional_field_that_is_empty_is_accepted(empty):
    spec = f"{{phoneNumber: '{PHONE}', displayName: {empty}, channelID: {empty}}}"
    old = written(f"phoneNumber: '{PHONE}'")
    assert errors(written(spec)) == []
    assert errors(written(spec), base=[old]) == []
    set_before = written(f"{{phoneNumber: '{PHONE}', channelID: a}}")
    assert [each.rule for each in errors(written(spec), base=[set_before])] == [
        "channel-id-changed"
    ]


def test_a_field_without_a_value_that_has_a_default_is_accepted():
    spec = "{phoneNumber: '+79865784457', active: , transport: , accountRef: {name: }}"
    assert errors(written(spec)) == []


def test_an_object_as_kubectl_prints_it_is_accepted():
    body = channel("support", PHONE)
    body["metadata"] |= {"uid": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
    body["status"] = {"observedGeneration": 1, "state": "Active", "conditions": []}
    assert errors(yaml.safe_dump({"kind": "List", "items": [body, STORED[0]]})) == []


@pytest.mark.parametrize(
    ("version", "kind", "sentence"),
    [
        ("wazzup.dev/v1beta1", "WazzupChannel", "must have apiVersion wazzup.dev/v1."),
        ("v1", "WazzupAccount", "must have apiVersion wazzup.dev/v1."),
        (
            "wazzup.dev/v1",
            "WazzupChan",
            "has an unknown kind; wazzup.dev/v1 has WazzupChannel.",
        ),
        (
            "wazzup.dev/v1",
            "Phone",
            "has an unknown kind; wazzup.dev/v1 has WazzupChannel and WazzupAccount.",
        ),
    ],
)
def test_a_kind_that_does_not_exist(version, kind, sentence):
    (problem,) = errors({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}})
    assert problem.message == f'{kind} "x" {sentence}'


def test_the_line_is_the_field_s():
    text = written("displayName: x\n  phoneNumber: '12'\n  active: 'on'")
    assert [each.line for each in found(text)] == [6, 7]
    old = written(f"displayName: x\n  phoneNumber: '{PHONE}'")
    (problem,) = errors(old.replace(PHONE, OTHER_PHONE), base=[old])
    assert problem.line == 6
    (problem,) = found(written(f"phoneNumber: '{PHONE}'\n  accountRef:\n    name: default"))
    assert problem.line == 7


def test_a_number_in_another_spelling_is_taken():
    older, younger = channel("older", "+525512345678"), channel("younger", "+5215512345678")
    (problem,) = errors(older, younger)
    assert '"younger": +5215512345678 is already declared by the WazzupChannel "older"' in (
        problem.message
    )
    assert problem.message.endswith(" See f0:1.")


def test_the_same_number_where_it_may_be_declared_again():
    elsewhere = channel("other", PHONE)
    elsewhere["metadata"]["namespace"] = "shop"
    assert errors(channel("one", PHONE), channel("api", PHONE, transport="wapi"), elsewhere) == []


@pytest.mark.parametrize("replacing_first", [True, False])
def test_a_number_of_an_object_that_is_replaced(replacing_first):
    old = channel("old", PHONE)
    new = channel("new", PHONE, annotations={"wazzup.dev/replaces": "old"})
    assert errors(*((new, old) if replacing_first else (old, new))) == []
    (problem,) = errors(old, new, channel("third", PHONE))
    assert problem.message.endswith(" See f0:1, f1:1.")


def test_many_objects_with_one_number():
    problems = errors(*(channel(f"c{n}", PHONE) for n in range(300)))
    assert len(problems) == 299
    assert max(len(each.message) for each in problems) < 1000


def test_an_object_that_is_declared_twice():
    (problem,) = errors(channel("support", PHONE), channel("support", OTHER_PHONE))
    assert problem.message == (
        'WazzupChannel "support" is declared twice: also in f0:1. Remove or rename one of them.'
    )
    assert problem.rule == "object-repeated"
    generated = channel("", PHONE)
    generated["metadata"] = {"generateName": "support-"}
    assert errors(generated, generated | {"spec": {"phoneNumber": OTHER_PHONE}}) == []
    (problem,) = errors(generated, generated)
    assert problem.message.startswith('WazzupChannel "support-": ')
    assert 'already declared by the WazzupChannel "support-…" in' in problem.message


def test_a_key_that_is_written_twice():
    (problem,) = errors(written(f"phoneNumber: '{PHONE}'\n  phoneNumber: '{OTHER_PHONE}'"))
    assert (problem.file, problem.line, problem.rule) == ("f0", 6, "key-repeated")
    assert problem.message == (
        'WazzupChannel "support" has the key "phoneNumber" twice; kubectl uses the last one. Remove'
        " one of them."
    )


def test_one_warning_for_each_account_that_is_not_there():
    channels = [channel(f"c{n}", f"+7986578445{n}") for n in range(3)]
    moved = channel("moved", OTHER_PHONE, accountRef={"name": "second"})
    moved["metadata"]["namespace"] = "shop"
    problems = found(*channels, moved)
    assert [each.message for each in problems] == [
        'WazzupChannel "c0" and 2 more refer to the WazzupAccount "default", which is not among'
        " these files. Add it, unless it is in the cluster already.",
        'WazzupChannel "moved" refers to the WazzupAccount "second" of namespace "shop", which is'
        " not among these files. Add it, unless it is in the cluster already.",
    ]
    assert {each.severity for each in problems} == {"warning"}
    broken = account(pollInterval="1s")
    assert [each.rule for each in found(broken, *channels)] == ["schema"]


def test_objects_at_the_base_are_updates():
    old = [*STORED, channel("wrong", IMPOSSIBLE), channel("again", PHONE)]
    assert found(*old, base=old) == []
    off = channel("wrong", IMPOSSIBLE, active=False)
    assert [each.rule for each in found(*STORED, off, base=old)] == ["active-switched"]
    (problem,) = errors(channel("first", PHONE), *STORED, base=STORED)
    assert (problem.rule, problem.file) == ("number-taken", "f0")


def test_an_invalid_object_at_the_base_is_ignored():
    assert found(*STORED, base=[STORED[0], channel("support", "none")]) == []


def test_other_kinds_are_not_read():
    assert [each.ours for each in manifests({"apiVersion": "v1", "kind": "Secret"})] == [False]
