"""Decoding a review: which fields survive, and what everything else costs."""

import json
import tracemalloc

import pytest
import yaml
from pydantic import TypeAdapter

from tests.integration.harness.world import ROOT
from wazzup_operator.admission.reviews import Invalid, read, uid_in
from wazzup_operator.resources.account import AccountSpec
from wazzup_operator.resources.channel import ChannelSpec

MIB = 2**20
KINDS = {"wazzupchannels": ChannelSpec, "wazzupaccounts": AccountSpec}
VALUES = {
    "phoneNumber": "+79865784457",
    "active": False,
    "accountRef": {"name": "second"},
    "transport": "wapi",
    "displayName": "Sales",
    "channelID": "11111111-2222-3333-4444-555555555555",
    "apiKeySecretRef": {"name": "wazzup", "key": "token"},
    "pollInterval": "90s",
}


def review(spec, plural="wazzupchannels", status=None, **metadata):
    body = {
        "apiVersion": "wazzup.dev/v1",
        "kind": "Any",
        "metadata": {"name": "support", "namespace": "shop", "uid": "uid-1", **metadata},
        "spec": spec,
    }
    if status is not None:
        body["status"] = status
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "review-1",
            "resource": {"group": "wazzup.dev", "version": "v1", "resource": plural},
            "operation": "CREATE",
            "userInfo": {"username": "somebody"},
            "object": body,
            "oldObject": None,
        },
    }


def decoded(spec, plural="wazzupchannels", **rest):
    """Return the object that kopf gets."""
    data = json.dumps(review(spec, plural, **rest)).encode()
    return read(data).for_kopf()["request"]["object"]


@pytest.mark.parametrize("plural", KINDS)
def test_every_field_of_a_spec_survives(plural):
    definition = yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = {name: VALUES[name] for name in schema["properties"]["spec"]["properties"]}
    assert decoded(spec, plural)["spec"] == spec
    TypeAdapter(KINDS[plural]).validate_python(spec)


def test_a_field_that_is_null_or_missing_stays_so():
    spec = {"phoneNumber": "+79865784457", "displayName": None}
    assert decoded(spec)["spec"] == spec


def test_only_the_fields_that_the_rules_need_survive():
    assert decoded(
        {"phoneNumber": "+79865784457", "unknown": [1]},
        status={"state": "Active", "account": "default", "conditions": [{"type": "Ready"}]},
        annotations={"wazzup.dev/replaces": "sales", "other": "x"},
        deletionTimestamp="2026-01-01T00:00:00Z",
        ownerReferences=[{"name": "x"}],
    ) == {
        "metadata": {
            "name": "support",
            "namespace": "shop",
            "annotations": {"wazzup.dev/replaces": "sales"},
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"phoneNumber": "+79865784457"},
        "status": {"state": "Active", "account": "default"},
    }


@pytest.mark.parametrize("spec", [{"phoneNumber": 1}, {"active": "yes"}, [], "x", None])
def test_a_spec_against_the_schema_has_no_fields(spec):
    assert decoded(spec)["spec"] == {}


@pytest.mark.parametrize("annotations", [None, [], "x", {"wazzup.dev/replaces": 1}])
def test_annotations_that_are_none_are_ignored(annotations):
    assert decoded({}, annotations=annotations)["metadata"]["annotations"] == {}


@pytest.mark.parametrize("status", ["Off", None, {"state": ["Off"]}, [1]])
def test_a_status_that_is_not_the_operator_s_has_no_fields(status):
    assert decoded({}, status=status)["status"] == {}


def padded(padding, *, into="spec"):
    """Return a review with this JSON in one of its objects."""
    body = json.dumps(review({"phoneNumber": "+79865784457"})).encode()
    key = b'"%s": {' % into.encode()
    return body.replace(key, key + b'"padding": ' + padding + b", ", 1)


ELEMENTS = {
    "objects": b"[" + b"{}," * (2 * MIB) + b"{}]",
    "numbers": b"[" + b"1," * (4 * MIB) + b"1]",
    "strings": b"[" + b'"",' * (2 * MIB) + b'""]',
    "keys": b"{" + b'"a":1,' * MIB + b'"a":1}',
    "shallow lists": b"[" + b"[[[]]]," * MIB + b"1]",
}


@pytest.mark.parametrize("into", ["spec", "metadata", "request", "userInfo"])
@pytest.mark.parametrize("padding", ELEMENTS.values(), ids=ELEMENTS)
def test_elements_cost_no_memory_beyond_their_bytes(padding, into):
    data = padded(padding, into=into)
    tracemalloc.start()
    try:
        kept = read(data).for_kopf()["request"]["object"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept["spec"] == {"phoneNumber": "+79865784457"}
    assert peak < MIB // 4


@pytest.mark.parametrize("text", ["x" * 2000, "x" * 4 * MIB + "\N{GRINNING FACE}"])
def test_a_text_longer_than_any_that_the_rules_need_is_not_kept(text):
    assert decoded({"phoneNumber": text})["spec"] == {}
    kept = decoded({}, annotations={"wazzup.dev/replaces": text})
    assert kept["metadata"]["annotations"] == {}
    assert read(json.dumps(review({}, name=text)).encode()).problem()


INVALID = b'"\xff"'


@pytest.mark.parametrize("value", [b'"+79865784457"', b'"Off"', b'"sales"'])
def test_a_text_that_is_not_utf_8_is_not_kept(value):
    spec = {"phoneNumber": "+79865784457"}
    annotations = {"wazzup.dev/replaces": "sales"}
    body = json.dumps(review(spec, status={"state": "Off"}, annotations=annotations)).encode()
    kept = read(body.replace(value, INVALID)).for_kopf()["request"]["object"]
    parts = [kept["spec"], kept["status"], kept["metadata"]["annotations"]]
    assert parts.count({}) == 1


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_a_review_that_is_nested_too_deeply(bracket):
    data = padded(bracket * MIB)
    with pytest.raises(RecursionError):
        read(data)
    assert uid_in(data) == "review-1"


def test_the_uid_is_read_only_where_the_api_server_writes_it():
    compact = json.dumps(review({}), separators=(",", ":")).encode()
    assert uid_in(compact) == uid_in(compact[:200]) == "review-1"
    first_object = b'{"kind":"AdmissionReview","request":{"object":{"metadata":{"uid":"other"}}}}'
    assert uid_in(first_object) is None
    assert uid_in(b" " * 5000 + compact) is None
    assert uid_in(compact.replace(b"review-1", b"\\u0041")) is None
    assert uid_in(b"") is None


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[]", b"null", b'{"kind": "AdmissionReview"}']
)
def test_what_is_not_a_review_is_invalid(data):
    with pytest.raises(Invalid, match="This is not an AdmissionReview"):
        read(data)
