"""What kubectl shows of the kinds, and what the API server refuses without the webhook."""

import json
import os
import re
import signal
import subprocess

import pytest

from tests.admission_cases import BAD_FIELDS, BAD_INTERVALS
from tests.integration.harness.api import JSON, ApiError, account, channel, eventually
from tests.integration.harness.world import World

NUMBER = "+79865784457"

CHANGES = {
    # field: its value, others, words of the refusal
    "phoneNumber": (NUMBER, ["+79865784458"], "create another WazzupChannel and set spec.active"),
    "transport": ("wapi", ["whatsapp", None], "Create another WazzupChannel"),
    "channelID": ("id-of-old", ["id-of-new", None, ""], "Put it back, or recreate this object"),
}


@pytest.mark.parametrize("field", CHANGES)
def test_identity_fields_cannot_be_changed(world: World, field: str) -> None:
    old, others, remedy = CHANGES[field]
    spec = {"phoneNumber": NUMBER, field: old}
    before = world.api.create({**channel("support", NUMBER), "spec": spec})
    for value in others:
        patch = json.dumps({"spec": {field: value}})
        patched = world.kubectl("patch", "wzch", "support", "--type=merge", f"-p={patch}")
        body = {**channel("support", NUMBER), "spec": {**spec, field: value}}
        replaced = world.kubectl("replace", "-f-", stdin=json.dumps(body))
        for refusal in (patched, replaced):
            assert refusal.returncode != 0
            for words in (f"spec.{field}", f'"{old}"', remedy):
                assert words in refusal.stderr
            assert readable(refusal.stderr), refusal.stderr
    after = world.api.get("wazzupchannel", "support")
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], 1)


def readable(message: str) -> bool:
    """Return whether a message is a sentence without the CEL expression or its failure."""
    return " " in message and not re.search(r"self\b|matches|\^|\\|failed rule|evaluat", message)


def test_other_fields_may_be_changed(world: World) -> None:
    world.declare("support", NUMBER, displayName="Support")
    for change in (
        {"active": False},
        {"displayName": "Sales"},
        {"displayName": None},
        {"accountRef": {"name": "second"}},
        {"accountRef": None},
        {"channelID": "808e0654"},
    ):
        world.api.patch("wazzupchannel", "support", {"spec": change})
    spec = world.api.get("wazzupchannel", "support")["spec"]
    assert spec == {
        "phoneNumber": NUMBER,
        "active": False,
        "transport": "whatsapp",
        "accountRef": {"name": "default"},
        "channelID": "808e0654",
    }


@pytest.mark.parametrize("empty", [None, ""])
def test_an_optional_field_may_be_empty(world: World, empty: str | None) -> None:
    """Templates write null or an empty string for a value that is not set."""
    absent = json.dumps(channel("support", NUMBER, displayName=empty, channelID=empty))
    for words in (
        ["create"],
        ["apply"],
        ["apply", "--server-side", "--force-conflicts"],
        ["replace"],
        ["patch", "wzch", "support", "--type=merge", f"-p={absent}"],
    ):
        given = ["-f-"] if words[0] != "patch" else []
        done = world.kubectl(*words, *given, stdin=absent)
        assert done.returncode == 0, done.stderr
        spec = world.api.get("wazzupchannel", "support")["spec"]
        assert not spec.get("displayName")
        assert not spec.get("channelID")
        if words != ["create"]:
            world.api.patch("wazzupchannel", "support", {"spec": {"displayName": "Support"}})
    world.api.patch("wazzupchannel", "support", {"spec": {"channelID": "808e0654"}})


def test_a_channel_id_changes_only_with_the_account(world: World) -> None:
    """Without accountRef it is the default account, before and after."""
    steps: list[tuple[JSON, bool]] = [
        ({"accountRef": {"name": "second"}, "channelID": "b"}, True),
        ({"accountRef": {"name": "second"}, "channelID": "c"}, False),
        ({"accountRef": {"name": "second"}}, False),
        ({"channelID": "a"}, True),
        ({"accountRef": {"name": "default"}, "channelID": "b"}, False),
        ({"accountRef": {}, "channelID": "b"}, False),
        ({"accountRef": {"name": "second"}, "channelID": "a"}, True),
        ({}, True),
        ({"accountRef": {"name": "second"}}, True),
        ({"accountRef": {"name": "second"}, "channelID": "b"}, True),
    ]
    path = world.api.path("wazzupchannel", "support")
    stored = world.api.create(channel("support", NUMBER, channelID="a"))
    for fields, allowed in steps:
        changed = {**stored, **channel("support", NUMBER, **fields)}
        changed["metadata"] = stored["metadata"]
        if allowed:
            stored = world.api.request("PUT", path, changed)
            continue
        with pytest.raises(ApiError, match=r"unless spec\.accountRef changes in") as refusal:
            world.api.request("PUT", path, changed)
        assert readable(refusal.value.message), fields
        assert "change it back, then change both in one edit" in refusal.value.message
        assert f'from "{stored["spec"]["channelID"]}" or removed' in refusal.value.message


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_an_invalid_channel_is_refused(world: World, name: str) -> None:
    spec, words = BAD_FIELDS[name]
    manifest = (
        f"apiVersion: wazzup.dev/v1\nkind: WazzupChannel\n"
        f"metadata: {{name: {name}}}\nspec:\n  {spec}\n"
    )
    refusal = world.kubectl("create", "-f-", stdin=manifest)
    assert refusal.returncode != 0
    assert words in refusal.stderr
    assert readable(refusal.stderr.replace("\\n", "")), refusal.stderr
    assert world.api.list("wazzupchannel") == []


@pytest.mark.parametrize("interval", BAD_INTERVALS)
def test_an_invalid_interval_is_refused(world: World, interval: str) -> None:
    body = account(pollInterval=interval)
    refusal = world.kubectl("create", "-f-", stdin=json.dumps(body))
    assert refusal.returncode != 0
    assert "is not a duration from 5s to 1h; write one such as 30s, 5m or 1h" in refusal.stderr
    assert readable(refusal.stderr.replace("\\n", "")), refusal.stderr
    assert world.api.list("wazzupaccount") == []


def test_values_at_the_limits_are_accepted(world: World) -> None:
    for interval in ("5s", "1m30s", "1h", "60m", "1.5m"):
        world.api.create(account(f"every-{interval}", pollInterval=interval))
    for name, number in (("shortest", "+7986578"), ("longest", "+798657844571234")):
        world.declare(name, number)


def test_a_new_object_has_defaults_and_is_not_ready(world: World) -> None:
    assert world.declare("new", NUMBER)["spec"] == {
        "phoneNumber": NUMBER,
        "active": True,
        "transport": "whatsapp",
        "accountRef": {"name": "default"},
    }
    body = account("new")
    del body["spec"]["pollInterval"]
    assert world.api.create(body)["spec"] == {
        "apiKeySecretRef": {"name": "wazzup", "key": "apiKey"},
        "pollInterval": "10s",
    }
    for kind in ("wazzupchannel", "wazzupaccount"):
        assert world.status("new", kind) == {"observedGeneration": -1}
        waited = world.kubectl("wait", "--for=condition=Ready", f"{kind}/new", "--timeout=1s")
        assert waited.returncode != 0
        assert "timed out" in waited.stderr


def test_an_unknown_state_is_stored(world: World) -> None:
    world.declare("later", NUMBER)
    world.api.patch("wazzupchannel", "later", {"status": {"state": "Enchanted"}}, "status")
    assert world.status("later")["state"] == "Enchanted"


def test_names_columns_and_selectors(world: World) -> None:
    world.api.create(account("sales"))
    world.declare("one", NUMBER)
    world.declare("two", "+79865784458", active=False)
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "ScanQRCode",
        "message": "Scan.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "state": "ScanQRCode",
        "channelID": "808e0654",
        "action": {"summary": "Scan the code.", "by": "phone"},
        "conditions": [ready],
    }
    world.api.patch("wazzupchannel", "one", {"status": status}, "status")

    def lines(*words: str) -> list[list[str]]:
        return [re.split(r"\s{2,}", line.strip()) for line in output(world, *words).splitlines()]

    header, one, two = lines("get", "wzch")
    assert header == ["NAME", "PHONE", "ACTIVE", "STATE", "READY", "BY", "AGE"]
    assert one[:-1] == ["one", NUMBER, "true", "ScanQRCode", "False", "phone"]
    assert two[:3] == ["two", "+79865784458", "false"]
    header, one, _ = lines("get", "wzch", "-o", "wide")
    columns = dict(zip(header, one, strict=True))
    assert columns.pop("AGE")
    assert columns == {
        "NAME": "one",
        "PHONE": NUMBER,
        "ACTIVE": "true",
        "STATE": "ScanQRCode",
        "READY": "False",
        "BY": "phone",
        "REASON": "ScanQRCode",
        "ACCOUNT": "default",
        "CHANNEL": "808e0654",
        "ACTION": "Scan the code.",
    }
    assert {"NAME", "READY", "AGE"} <= set(lines("get", "wzacc")[0])
    both = output(world, "get", "wazzup", "-o", "name").split()
    assert sorted(both) == [
        "wazzupaccount.wazzup.dev/sales",
        "wazzupchannel.wazzup.dev/one",
        "wazzupchannel.wazzup.dev/two",
    ]
    for selector, name in (
        ("spec.phoneNumber=+79865784458", "two"),
        ("status.state=ScanQRCode", "one"),
        ("status.state!=ScanQRCode", "two"),
    ):
        found = output(world, "get", "wzch", f"--field-selector={selector}", "-o", "name")
        assert found.split() == [f"wazzupchannel.wazzup.dev/{name}"], selector


def output(world: World, *words: str) -> str:
    done = world.kubectl(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["WazzupChannel", "WazzupAccount"])
def test_every_field_has_a_description(world: World, kind: str) -> None:
    schema = published(world, kind)
    missing = [path for path, field in fields(schema, kind) if not described(field)]
    assert missing == []


def published(world: World, kind: str) -> JSON:
    """Wait for the schema of `kubectl explain`, which is published after the CRD."""

    def look() -> JSON | None:
        try:
            document = world.api.request("GET", "openapi/v3/apis/wazzup.dev/v1")
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return document["components"]["schemas"].get(f"dev.wazzup.v1.{kind}")

    return eventually(look, f"the schema of {kind} is published", 30)


def fields(schema: JSON, path: str) -> list[tuple[str, JSON]]:
    """Return every field below, except metadata."""
    found = [(path, schema)]
    for name, inner in schema.get("properties", {}).items():
        found += fields(inner, f"{path}.{name}")
    if "items" in schema:
        found += fields(schema["items"], f"{path}[]")
    return found


def described(schema: JSON) -> bool:
    refers = any("$ref" in each for each in schema.get("allOf", []))
    return refers or len(schema.get("description", "").split()) >= 2


def test_kubectl_wait_ignores_the_status_of_an_older_spec(world: World) -> None:
    world.account_with_key()
    world.declare("support", NUMBER)
    listed = world.add(NUMBER, state="active")
    controller = world.controller()
    world.wait_reason("support", "Active", seconds=30)
    assert waited(world, "10s").returncode == 0

    os.kill(controller.pid, signal.SIGSTOP)
    try:
        world.api.patch("wazzupchannel", "support", {"spec": {"active": False}})
        assert world.condition("support", "Ready")["status"] == "True"
        assert waited(world, "1s").returncode != 0, "it took the old status"
    finally:
        os.kill(controller.pid, signal.SIGCONT)
    assert waited(world, "3s").returncode != 0
    status = world.wait_reason("support", "StillActive", seconds=30)
    assert status["observedGeneration"] == 2

    world.simulator.act(listed, "untick")
    assert waited(world, "30s").returncode == 0
    assert world.condition("support", "Ready")["reason"] == "Off"


def waited(world: World, timeout: str) -> subprocess.CompletedProcess[str]:
    return world.kubectl("wait", "--for=condition=Ready", "wzch/support", f"--timeout={timeout}")
