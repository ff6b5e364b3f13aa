"""Objects as large and as deep as the API server takes them: none goes unreviewed."""

import http.client
import json

import pytest

from tests.integration.harness.api import JSON, channel
from tests.integration.harness.webhook import IMPOSSIBLE, PATIENCE
from tests.integration.harness.world import World

LIMIT = 3 * 2**20
"""Bytes of a request, by the API server's default."""

ROOM = 10_000


def padded(**metadata: object) -> bytes:
    """Return an impossible object."""
    body = channel("padded", IMPOSSIBLE)
    body["metadata"] |= metadata
    return json.dumps(body).encode()


def owned(name: str) -> bytes:
    return padded(ownerReferences=[{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "1"}])


def labelled() -> bytes:
    labels = range((LIMIT - ROOM) // (63 + 63 + 8))
    return padded(labels={f"l{number:062}": "x" * 63 for number in labels})


def deep(depth: int) -> bytes:
    """Return an impossible object with managedFields that are nested so deeply."""
    manager: JSON = {"manager": "x", "operation": "Update", "apiVersion": "wazzup.dev/v1"}
    manager |= {"time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": "DEEP"}
    fields = b'{"f:x":' * depth + b"{}" + b"}" * depth
    return padded(managedFields=[manager]).replace(b'"DEEP"', fields)


PADDED = {
    "one text": (owned("x" * (LIMIT - ROOM)), "cannot be a phone number"),
    "labels": (labelled(), "cannot be a phone number"),
    # The API server writes each as six bytes in the review.
    "escaped text": (owned("<" * (LIMIT - ROOM)), "too large to be reviewed"),
    "deep": (deep(400), "cannot be a phone number"),
    "deeper": (deep(4900), "nested too deeply to be reviewed"),
}


@pytest.mark.parametrize(("body", "sentence"), PADDED.values(), ids=PADDED)
def test_a_padded_object_is_refused(loose: World, body: bytes, sentence: str) -> None:
    assert len(body) < LIMIT
    api = loose.api  # its audit log is read by nobody
    connection = http.client.HTTPSConnection(api.address, timeout=PATIENCE, context=api.tls)
    try:
        path = f"/{api.path('wazzupchannel')}?dryRun=All"
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    assert sentence in answer["message"]
