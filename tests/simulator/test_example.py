"""examples/simulator matches examples/, the command's defaults and the version."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from wazzup_simulator.act import act

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "examples" / "simulator" / "simulator.yaml"


@pytest.fixture
def deployment() -> dict[str, Any]:
    deployment, _ = yaml.safe_load_all(MANIFEST.read_text())
    return deployment


@pytest.fixture
def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


def test_service_selects_the_pod(deployment: dict[str, Any]) -> None:
    _, service = yaml.safe_load_all(MANIFEST.read_text())
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_act_uses_the_port_by_default(container: dict[str, Any]) -> None:
    (port,) = [each["containerPort"] for each in container["ports"]]
    assert f"--port={port}" in container["args"]
    (url,) = [each.default for each in act.params if each.name == "url"]
    assert url == f"http://127.0.0.1:{port}"


def test_readme_uses_the_address_of_the_service() -> None:
    _, service = yaml.safe_load_all(MANIFEST.read_text())
    address = (
        f"http://{service['metadata']['name']}.default.svc:{service['spec']['ports'][0]['port']}"
    )
    readme = MANIFEST.with_name("README.md").read_text()
    assert f"--set settings.wazzupUrl={address} " in readme


def test_image_has_the_current_version(container: dict[str, Any]) -> None:
    (version,) = re.findall(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())
    assert container["image"] == f"wazzup-operator:{version}"
