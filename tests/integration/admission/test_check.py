"""What `wazzup-operator check` accepts, the API server and the webhook accept, and vice versa."""

import random
from collections.abc import Iterator

from tests.integration.harness.api import ApiError
from tests.integration.harness.world import World
from wazzup_operator.gitops.check import check
from wazzup_operator.gitops.manifests import Manifest, read
from wazzup_operator.gitops.problem import Problem, Severity

SEED = 17
COUNT = 400

TEXTS = [
    *(
        "Support",
        "'Support'",
        '"a\\nb"',
        "Поддержка ☎️",
        "yes",
        "y",
        "N",
        "off",
        "True",
        "~",
        "null",
    ),
    *("''", '""', "' '", "7", "0x1F", "0o17", "017", "089", "1_000", "1e3", "1.5", ".5"),
    *("1:30", "2026-01-01", "1.2.3", "'7'", "!!str 7", "+", "-x", "=", "[a]"),
    *("{a: b}", "|\n    a\n    b", ">-\n    a\n    b", "x" * 64, "x" * 65, "я" * 256, "я" * 257),
    *('"\\0"', '"\\_\\L\\P"', '"\\U0001F600"', "&a x", "x # comment", "'it''s'", "1e", "0b12"),
]
FIELDS = {
    "active": ["true", "false", "yes", "Off", "~", "'on'", "0", "1", "'true'", "n", "[]"],
    "transport": ["whatsapp", "wapi", "'wapi'", "WAPI", "null", "''", "7", "telegram"],
    "displayName": TEXTS,
    "channelID": TEXTS,
    "accountRef": [
        *("{name: default}", "{}", "~", "{name: ~}", "{name: Default}", "{name: a.b}", "default"),
        *(
            "{name: default, kind: x}",
            "{name: ''}",
            "{name: 7}",
            "{name: '7'}",
            f"{{name: {'a' * 254}}}",
        ),
    ],
    "phonenumber": ["'+79865784457'"],
    "paused": ["true"],
}
NUMBERS = [
    *("'+7986578{:04}'",) * 20,
    *(
        "+7986578{:04}",
        "'7986578{:04}'",
        "'+7 986 578 {:04}'",
        "'+999123{:04}'",
        "'+52155123{:05}'",
    ),
    *("'+55119876{:05}'", "'+551198765{:03}'", "'+798657'", "'+7986578{:04}\n'", "~", "''"),
]
METADATA = {
    "labels": [
        *("{}", "~", "{team: sales}", "{team: ''}", "{team: true}", "{team: 7}", "{'a b': c}"),
        *("{example.org/team: a_b.c}", "{a/b/c: d}", "{team: -a}", f"{{team: {'a' * 64}}}"),
    ],
    "annotations": [
        *("~", "{wazzup.dev/paused: 'true'}", "{wazzup.dev/paused: true}", '{a: "b\\nc"}'),
        *("{/a: b}", "{a/: b}", "{a: [b]}"),
    ],
    "namespaces": ["x"],
}
INTERVALS = [
    *("5s", "1h", "60m", "3600s", "1m30s", "1.5m", "5000ms", "4999ms", "4999.999999999ms", "60"),
    *("'60'", "1d", "0.0014h", "3600.000000001s", "59m60s", "1h0.000000001ms", "~", "''", "5S"),
    *("1h1ms", "-5s", "00005s", "1m1m1m1m", "1m1m1m1m1m", "0.083333333m", "0.08333333333m"),
]


def fields(pools: dict[str, list[str]], chance: random.Random, share: float) -> Iterator[str]:
    for key, values in pools.items():
        if chance.random() < share:
            yield f"  {key}: {chance.choice(values)}\n"


def channel(index: int, chance: random.Random) -> str:
    number = chance.choice(NUMBERS).format(index)
    return (
        "apiVersion: wazzup.dev/v1\nkind: WazzupChannel\nmetadata:\n"
        f"  name: {chance.choice(['c{}'] * 40 + ['C{}', '-c{}', 'c_{}']).format(index)}\n"
        + "".join(fields(METADATA, chance, 0.07))
        + f"spec:\n  phoneNumber: {number}\n"
        + "".join(fields(FIELDS, chance, 0.1))
    )


def account(index: int, chance: random.Random) -> str:
    secret = chance.choice([*["wazzup"] * 20, "Wazzup", "7", "'7'", "a.b", "''", "~"])
    key = chance.choice([*["apiKey"] * 20, "api_key.1", "'a b'", "~", "7", "''"])
    interval = chance.choice(INTERVALS)
    return (
        f"apiVersion: wazzup.dev/v1\nkind: WazzupAccount\nmetadata: {{name: a{index}}}\nspec:\n"
        f"  apiKeySecretRef: {{name: {secret}, key: {key}}}\n  pollInterval: {interval}\n"
    )


def texts() -> list[str]:
    chance = random.Random(SEED)
    makers = [channel, channel, channel, account]
    return [makers[index % len(makers)](index, chance) for index in range(COUNT)]


def errors(manifests: list[Manifest]) -> list[Problem]:
    return [each for each in check(manifests, {}) if each.severity is Severity.ERROR]


def test_check_and_the_api_server_agree(strict: World) -> None:
    every = {text: list(read(str(index), text)) for index, text in enumerate(texts())}
    refused = {each.file for each in errors([one for some in every.values() for one in some])}
    accepted = [text for text, (one,) in every.items() if one.file not in refused]
    assert len(accepted) > COUNT / 5
    assert len(refused) > COUNT / 5

    for words in (["create"], ["apply", "--server-side", "--force-conflicts"]):
        done = strict.kubectl(*words, "-f", "-", stdin="---\n".join(accepted))
        refusals = [
            each for each in done.stderr.split("\n") if each and not each.startswith("Warning: ")
        ]
        assert (done.returncode, refusals) == (0, [])
        assert len(done.stdout.splitlines()) == len(accepted)

    wronged = [
        each.message
        for (one,) in every.values()
        if one.file in refused and admitted(strict, one)
        for each in errors([one])
    ]
    assert "\n".join(wronged) == ""


def admitted(world: World, one: Manifest) -> bool:
    """Return whether the API server would apply an object, warnings aside."""
    path = world.api.path(one.kind.lower(), one.name)
    query = {"fieldManager": "test", "dryRun": "All", "fieldValidation": "Strict"}
    try:
        world.api.request("PATCH", path, one.body, "application/apply-patch+yaml", **query)
    except ApiError:
        return False
    return True
