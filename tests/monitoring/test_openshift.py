"""A Prometheus that ignores honorLabels and enforces `namespace`, as OpenShift's for users does."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.harness.api import eventually
from tests.monitoring.prometheus import Prometheus

ROOT = Path(__file__).parents[2]
SCRAPE = "".join(
    f"""
wazzup_account_up{{namespace="{namespace}",account="default"}} {up}
wazzup_channel_state{{namespace="{namespace}",name="support",account="default",state="Off"}} 1
"""
    for namespace, up in (("shop", 1), ("bar", 0))
)
SCRAPE += 'leader_election_master_status{name="wz"} 1\n'


@pytest.fixture
def target() -> Iterator[str]:
    """A leader with two accounts of one name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(SCRAPE.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def relabelings() -> list[dict[str, Any]]:
    """Return the documented relabelings, as the Prometheus Operator configures them."""
    section = (ROOT / "docs" / "monitoring.md").read_text().partition("\n## OpenShift\n")[2]
    (block,) = re.findall(r"```yaml\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    values = yaml.safe_load(block)["serviceMonitor"]["metricRelabelings"]
    return [{_snake_case(key): value for key, value in each.items()} for each in values]


def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)


def test_accounts_of_one_name_in_two_namespaces_stay_apart(tmp_path: Path, target: str) -> None:
    enforced = {"target_label": "namespace", "replacement": "operators"}
    relabeled = [*relabelings(), enforced]
    with Prometheus(
        tmp_path, {"a": target}, honor_labels=False, metric_relabel_configs=relabeled
    ) as prometheus:

        def found(record: str, label: str) -> dict[str, float]:
            return {each[label]: value for each, value in prometheus.ask(record)}

        eventually(
            lambda: found("wazzup:account_up", "account") == {"shop/default": 1, "bar/default": 0},
            "both accounts are recorded",
            30,
        )
        names = found("wazzup:channel_state", "name")
        assert names.keys() == {"shop/support", "bar/support"}
        (leader,) = prometheus.ask("leader_election_master_status")
        assert (leader[0]["namespace"], leader[0]["name"]) == ("operators", "wz")
