"""examples/receiver: a receiver of Wazzup's channelsUpdates may request a listing, nothing else."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml

from tests.integration.harness.api import JSON, account, eventually, secret
from tests.integration.harness.world import World

EXAMPLE = Path(__file__).parents[2] / "examples" / "receiver"
REQUESTED = "wazzup.dev/requested-at"

Patch = Callable[..., tuple[int, str]]


@pytest.fixture
def patch(world: World) -> Patch:
    """Apply the example; return a function that patches an account as the receiver."""
    for file in ("receiver.yaml", "policy.yaml"):
        applied = world.kubectl("apply", "-f", str(EXAMPLE / file))
        assert applied.returncode == 0, applied.stderr
    kubeconfig = world.plane.kubeconfig_for_account(world.api.namespace, "wazzup-receiver")
    config = yaml.safe_load(kubeconfig.read_text())
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    tls = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
    token = config["users"][0]["user"]["token"]

    def send(body: JSON, name: str = "default", **query: str) -> tuple[int, str]:
        path = world.api.path("wazzupaccount", name)
        request = urllib.request.Request(
            f"https://{world.api.address}/{path}?{urlencode(query)}",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"},
            method="PATCH",
        )
        try:
            with urllib.request.urlopen(request, timeout=20, context=tls) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return send


def annotated(name: str, value: str | None) -> JSON:
    return {"metadata": {"annotations": {name: value}}}


REFUSED: dict[str, JSON] = {
    "spec": {"spec": {"pollInterval": "5s"}},
    "another annotation": annotated("wazzup.dev/paused", "true"),
    "an annotation removed": annotated("team", None),
    "an annotation changed": annotated("team", "b"),
    "labels": {"metadata": {"labels": {"team": "b"}}},
    "finalizers": {"metadata": {"finalizers": ["example.com/hold"]}},
    "a long value": annotated(REQUESTED, "x" * 65),
}


def test_a_receiver_may_request_a_listing_and_nothing_else(world: World, patch: Patch) -> None:
    body = account(pollInterval="1h")
    body["metadata"]["annotations"] = {"team": "a"}
    world.api.create(secret(world.key))
    world.api.create(body)
    world.api.create(account("other"))
    rehearsal = {"dryRun": "All"}
    eventually(lambda: patch(REFUSED["spec"], **rehearsal)[0] == 422, "the policy is in force")
    before = world.api.get("wazzupaccount", "default")
    for what, change in REFUSED.items():
        assert patch(change)[0] == 422, what
    assert world.api.get("wazzupaccount", "default") == before
    assert "may only change the annotation wazzup.dev/requested-at" in patch(REFUSED["spec"])[1]
    assert patch(annotated(REQUESTED, "1"), "other")[0] == 403
    assert patch({"status": {"unmanaged": []}}, "default/status")[0] == 403

    channel = world.add("+79865784457", state="qridle")
    world.declare("support", "+79865784457")
    world.controller()
    world.wait_reason("support", "ScanQRCode")
    world.simulator.act(channel, "scan")
    status, answer = patch(annotated(REQUESTED, "1"))
    assert status == 200, answer
    world.wait_reason("support", "Active")
    for value in ("2", None):
        assert patch(annotated(REQUESTED, value))[0] == 200
