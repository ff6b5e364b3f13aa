"""The kustomize example: names that kustomize changes, and references to them."""

import shutil
from pathlib import Path

from tests.integration.harness.world import World

EXAMPLE = Path(__file__).parents[2] / "examples" / "kustomize"

RENAMED = """
---
apiVersion: wazzup.dev/v1
kind: WazzupChannel
metadata:
  name: help
  annotations:
    wazzup.dev/replaces: hotline
spec:
  phoneNumber: "+12025550105"
  accountRef:
    name: messages
"""


def test_references_follow_names_that_kustomize_changes(world: World) -> None:
    copy = world.directory / "kustomize"
    shutil.copytree(EXAMPLE, copy)
    put_in = copy / "shop" / "kustomization.yaml"
    put_in.write_text(put_in.read_text().replace("put-your-api-key-here", world.key))
    world.add("+12025550105", state="active")
    world.add("+12025550106", state="active")
    world.values = ("rbac.secretNames={wazzup,shop-wazzup}",)
    world.controller()

    applied = world.kubectl("apply", "-k", str(put_in.parent))
    assert applied.returncode == 0, applied.stderr
    for name in ("shop-hotline", "shop-orders"):
        world.wait_reason(name, "Active")
    channels = copy / "base" / "channels.yaml"
    channels.write_text(channels.read_text() + RENAMED)
    applied = world.kubectl("apply", "-k", str(put_in.parent))
    assert applied.returncode == 0, applied.stderr
    annotations = world.api.get("wazzupchannel", "shop-help")["metadata"]["annotations"]
    assert annotations["wazzup.dev/replaces"] == "shop-hotline"
