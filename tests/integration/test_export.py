"""From an account to a cluster and back: export, apply, export again."""

import os
import subprocess
import sys
from pathlib import Path

from tests.expected_states import STATES
from tests.integration.harness.api import JSON, eventually, secret
from tests.integration.harness.world import World

COUNT = 300
STATE_OF = {spelling.lower(): each.state for each in STATES for spelling in each.spellings}
RAW = [*STATE_OF, "frozen"]
NAMES = [
    *(
        "Поддержка",
        "Қолдау 🎉",
        "🎉",
        "x" * 200,
        "Sales",
        "sales",
        "",
        "on",
        "2024",
        "79865770011 (Shop)",
    ),
    *('"quoted": #1', "a\nb\t\\", "- item", "\u200b\u00a0\u2028", "日本", "y", "~", "{{ name }}"),
]
TRANSPORTS = ["whatsapp", "whatsapp", "wapi"]
PREFIXES = ["7986577{:04}", "5215512{:06}", "5511987{:06}", "549115123{:04}", "1415555{:04}"]


def channels() -> list[JSON]:
    return [
        {
            "phone": PREFIXES[index % len(PREFIXES)].format(index + 1000),
            "state": RAW[index % len(RAW)],
            "name": NAMES[index % len(NAMES)] or None,
            "transport": TRANSPORTS[index % len(TRANSPORTS)],
        }
        for index in range(COUNT)
    ]


def run(world: World, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "WAZZUP_API_KEY": world.key,
        "WAZZUP_OPERATOR_WAZZUP_URL": world.simulator.base_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "wazzup_operator", *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    world.scraped.append(done.stderr)
    assert done.returncode == 0, done.stderr
    return done


def tree(folder: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in folder.iterdir()}


def test_an_account_becomes_objects_and_stays_as_it_is(world: World) -> None:
    added = world.simulator.add_channels(channels(), world.account)
    # Two and three channels of one number; only one of each is exported.
    for index, state in ((0, "qridle"), (0, "disabled"), (1, "disabled"), (2, "active")):
        body = channels()[index]
        world.simulator.add_channel(
            body["phone"], body["transport"], account=world.account, state=state, duplicate=True
        )
    for phone, changes in (
        ("79865779001", {"plainId": None}),
        ("79865779002", {"plainId": "0123456789"}),
        ("79865779003", {"plainId": "99912345678"}),
        ("79865779004", {"transport": "telegram"}),
    ):
        world.simulator.patch_channel(world.add(phone, state="active"), **changes)
    world.simulator.patch_channel(added[7], name="")

    folder = world.directory / "out"
    done = run(world, "export", "--output-dir", folder)
    assert f"Declared: {COUNT}, " in done.stderr
    assert "States that this version does not know: 'frozen'" in done.stderr
    first = tree(folder)
    assert len(first) == COUNT + 3  # the account, the kustomization, what is left out
    assert first["not-exported.yaml"].count("\n# - ") == 8
    done = run(world, "check", folder)
    assert " 0 errors," in done.stderr

    world.api.create(secret(world.key))
    applied = world.kubectl("apply", "-k", str(folder))
    assert applied.returncode == 0, applied.stderr
    assert applied.stdout.count(" created\n") == COUNT + 1
    controller = world.controller()
    controller.wait_ready()
    rows = {each.id: each.row for each in world.simulator.channels(world.account)}
    eventually(lambda: all(map(seen, world.api.list("wazzupchannel"))), "all are seen", 60)
    for each in world.api.list("wazzupchannel"):
        status = each["status"]
        row = rows[status["channelID"]]
        assert status["state"] == STATE_OF.get(row["state"].lower(), "SomethingWentWrong")
        assert status["plainID"] == row["plainId"]
        assert status.get("drift", []) == [], each
        assert each["spec"]["active"] == (row["state"].lower() != "disabled")

    done = run(world, "export", "--output-dir", folder)
    assert f"Files: 0 new, 0 changed, {COUNT + 1} unchanged." in done.stderr
    assert tree(folder) == first
    applied = world.kubectl("apply", "-k", str(folder))
    assert applied.stdout.count(" unchanged\n") == COUNT + 1


def seen(body: JSON) -> bool:
    return body["status"].get("channelID") is not None
