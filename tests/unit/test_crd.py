"""Promises of the CRDs that tests/integration/test_crd.py cannot observe."""

from pathlib import Path

import pytest
import yaml

from tests.unit.build import account, body, channel
from wazzup_operator.resources.codec import ACCOUNTS, CHANNELS

CRDS = Path(__file__).parents[2] / "crds"
FILES = ["wazzupaccounts.yaml", "wazzupchannels.yaml"]

each_file = pytest.mark.parametrize("name", FILES)


def definition(name):
    return yaml.safe_load((CRDS / name).read_text())


def version(name):
    (only,) = definition(name)["spec"]["versions"]
    return only


def schema(name):
    return version(name)["schema"]["openAPIV3Schema"]


def properties(node, path):
    """Yield every property below a schema, with its path."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from properties(child, f"{path}.{name}")
    if "items" in node:
        yield from properties(node["items"], f"{path}[]")


@each_file
def test_lists_are_maps(name):
    keys = {
        path: node["x-kubernetes-list-map-keys"]
        for path, node in properties(schema(name)["properties"]["status"], "")
        if node["type"] == "array" and node["x-kubernetes-list-type"] == "map"
    }
    assert keys.pop(".conditions") == ["type"]
    expected = {".drift": ["field"]} if "channels" in name else {".unmanaged": ["channelID"]}
    assert keys == expected


@each_file
def test_no_status_has_a_closed_list_of_words(name):
    """An older CRD would refuse a newer operator's word."""
    status = schema(name)["properties"]["status"]
    closed = {path for path, node in properties(status, "") if "enum" in node}
    assert closed == {".conditions[].status"}


def test_an_account_status_with_a_newer_operators_transport_is_read():
    """As after a rollback."""
    newer = {"channelID": "a", "transport": "tomorrow", "state": "Active"}
    stored = {**body(account()), "status": {"observedGeneration": 1, "unmanaged": [newer]}}
    assert ACCOUNTS.status_json(ACCOUNTS.decode(stored).status)["unmanaged"] == [newer]


@pytest.mark.parametrize("empty", [None, ""])
def test_an_optional_field_that_is_empty_is_not_set(empty):
    stored = body(channel())
    stored["spec"] |= {"displayName": empty, "channelID": empty}
    assert CHANNELS.decode(stored) == CHANNELS.decode(body(channel()))


@pytest.mark.parametrize("field", [".phoneNumber", ".transport", ".channelID"])
def test_what_cannot_be_changed(field):
    spec = schema("wazzupchannels.yaml")["properties"]["spec"]
    (rule,) = (each for each in spec["x-kubernetes-validations"] if each["fieldPath"] == field)
    assert "oldSelf" in rule["rule"]
    remedies = {
        ".phoneNumber": "create another WazzupChannel and set spec.active to false here",
        ".transport": "Create another WazzupChannel with the new transport, and set spec.active",
        ".channelID": "change it back, then change both in one edit",
    }
    assert remedies[field] in rule["messageExpression"]
    if field != ".channelID":
        assert remedies[field] in rule["message"]


def test_no_field_holds_the_api_address():
    text = (CRDS / "wazzupaccounts.yaml").read_text()
    assert "url" not in schema("wazzupaccounts.yaml")["properties"]["spec"]["properties"]
    assert "api.wazzup24.com" not in text
