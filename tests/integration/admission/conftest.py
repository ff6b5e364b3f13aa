"""Control planes whose API servers call a webhook, and webhooks that tests call directly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.controlplane.plane import ControlPlane
from tests.integration.admission.connections import Start
from tests.integration.admission.site import Site, without_rules
from tests.integration.harness.crds import install
from tests.integration.harness.load import assert_stops_cleanly
from tests.integration.harness.release import Given
from tests.integration.harness.webhook import Authority, Webhook, of_chart
from tests.integration.harness.world import World


@pytest.fixture(scope="module")
def site(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The session's control plane, with the CRDs as shipped."""
    with Site.open(plane, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def loose_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A control plane whose CRDs have no CEL rules: only the handlers refuse."""
    with ControlPlane(tmp_path_factory.mktemp("loose-plane")) as plane:
        found: list[int] = []
        install(plane, lambda crd: found.append(without_rules(crd)))
        assert found
        assert all(found)
        with Site.open(plane, tmp_path_factory.mktemp("loose-site")) as site:
            yield site


@pytest.fixture
def strict(site: Site) -> World:
    return site.world()


@pytest.fixture
def loose(loose_site: Site) -> World:
    return loose_site.world()


@pytest.fixture
def start(plane: ControlPlane, tmp_path: Path) -> Iterator[Start]:
    """Start webhooks; after the test, check that they stop cleanly and have logged no numbers."""
    started: list[Webhook] = []

    def start(
        authority: Authority | None, *flags: str, given: Given | None = None, ready: bool = True
    ) -> Webhook:
        directory = tmp_path / f"webhook-{len(started)}"
        webhook = Webhook(given or of_chart(plane), directory, authority, *flags)
        started.append(webhook)
        webhook.start()
        if ready:
            webhook.wait_ready()
        return webhook

    try:
        yield start
        for webhook in started:
            assert_stops_cleanly(webhook)
    finally:
        for webhook in started:
            if webhook.runs:
                webhook.kill()


@pytest.fixture
def authority() -> Authority:
    return Authority()
