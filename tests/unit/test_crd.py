"""The CRDs: described, and with what the design promises."""

from pathlib import Path

import pytest
import yaml

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


def described():
    for name in FILES:
        for part in ("spec", "status"):
            node = schema(name)["properties"][part]
            yield pytest.param(node, id=f"{name[:-5]}.{part}")
            for path, child in properties(node, part):
                yield pytest.param(child, id=f"{name[:-5]}.{path}")


@pytest.mark.parametrize("node", list(described()))
def test_every_property_is_described(node):
    assert node.get("description", "").strip()


@pytest.mark.parametrize("node", list(described()))
def test_every_property_has_a_type_and_no_reference(node):
    assert node["type"] in {"string", "integer", "boolean", "object", "array"}
    assert not {"$ref", "anyOf", "title", "$defs"} & set(node)


@each_file
def test_a_status_begins_with_minus_one(name):
    assert schema(name)["properties"]["status"]["default"] == {"observedGeneration": -1}


@pytest.mark.parametrize(
    ("name", "kind", "short"),
    [
        ("wazzupaccounts.yaml", "WazzupAccount", "wzacc"),
        ("wazzupchannels.yaml", "WazzupChannel", "wzch"),
    ],
)
def test_names(name, kind, short):
    spec = definition(name)["spec"]
    assert definition(name)["metadata"]["name"] == f"{name[:-5]}.wazzup.dev"
    assert (spec["group"], spec["scope"]) == ("wazzup.dev", "Namespaced")
    assert spec["names"]["kind"] == kind
    assert spec["names"]["shortNames"] == [short]
    assert version(name)["name"] == "v1"
    assert version(name)["subresources"] == {"status": {}}
    assert schema(name)["required"] == ["spec"]


def test_columns_of_a_channel():
    columns = version("wazzupchannels.yaml")["additionalPrinterColumns"]
    narrow = [each["name"] for each in columns if not each.get("priority")]
    wide = [each["name"] for each in columns if each.get("priority")]
    assert narrow == ["Phone", "Active", "State", "Ready", "By", "Age"]
    assert wide == ["Reason", "Account", "Channel", "Action"]


def test_selectable_fields_of_a_channel():
    fields = version("wazzupchannels.yaml")["selectableFields"]
    assert [each["jsonPath"] for each in fields] == [".spec.phoneNumber", ".status.state"]


@pytest.mark.parametrize(
    ("field", "default"),
    [
        ("active", True),
        ("transport", "whatsapp"),
        ("accountRef", {"name": "default"}),
        ("displayName", None),
        ("channelID", None),
        ("phoneNumber", None),
    ],
)
def test_defaults_of_a_channel(field, default):
    spec = schema("wazzupchannels.yaml")["properties"]["spec"]
    assert spec["properties"][field].get("default") == default
    assert spec["required"] == ["phoneNumber"]


def test_defaults_of_an_account():
    spec = schema("wazzupaccounts.yaml")["properties"]["spec"]
    assert spec["properties"]["pollInterval"]["default"] == "60s"
    assert spec["properties"]["apiKeySecretRef"]["properties"]["key"]["default"] == "apiKey"
    assert spec["required"] == ["apiKeySecretRef"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "wazzupchannels.yaml",
            "observedGeneration account state upstreamState channelID plainID displayName"
            " stateSince action drift conditions",
        ),
        (
            "wazzupaccounts.yaml",
            "observedGeneration lastSyncTime channels unmanaged conditions",
        ),
    ],
)
def test_fields_of_a_status(name, fields):
    assert set(schema(name)["properties"]["status"]["properties"]) == set(fields.split())


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


@pytest.mark.parametrize("field", [".phoneNumber", ".transport", ".channelID"])
def test_what_cannot_be_changed(field):
    spec = schema("wazzupchannels.yaml")["properties"]["spec"]
    (rule,) = (each for each in spec["x-kubernetes-validations"] if each["fieldPath"] == field)
    assert "oldSelf" in rule["rule"]
    remedies = {
        ".phoneNumber": "create another WazzupChannel and set spec.active to false here",
        ".transport": "create another WazzupChannel for the new one, and set spec.active to false",
        ".channelID": "delete this object and create it anew",
    }
    assert remedies[field] in rule["messageExpression"]
    if field != ".channelID":
        assert remedies[field] in rule["message"]


def test_the_numbers_form_is_a_sentence_and_no_pattern():
    number = schema("wazzupchannels.yaml")["properties"]["spec"]["properties"]["phoneNumber"]
    assert "pattern" not in number
    (rule,) = number["x-kubernetes-validations"]
    assert "E.164" in rule["messageExpression"]


def test_the_api_address_is_no_field():
    text = (CRDS / "wazzupaccounts.yaml").read_text()
    assert "url" not in schema("wazzupaccounts.yaml")["properties"]["spec"]["properties"]
    assert "api.wazzup24.com" not in text
