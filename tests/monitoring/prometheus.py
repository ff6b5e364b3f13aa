"""A Prometheus on 127.0.0.1."""

import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from dev.generate.files import RULES
from dev.processes.port import free_port
from dev.processes.process import Process

ROOT = Path(__file__).parents[2]


class Prometheus:
    """A Prometheus on 127.0.0.1 that scrapes replicas every second.

    `overrides` replaces parts of the scrape configuration.
    """

    def __init__(self, directory: Path, targets: Mapping[str, str], **overrides: Any) -> None:
        self._address = f"127.0.0.1:{free_port()}"
        self._process = Process("prometheus", directory / "prometheus.log")
        self._directory = directory
        config = yaml.safe_load((ROOT / "examples/monitoring/scrape_config.yaml").read_text())
        (scrape,) = config["scrape_configs"]
        assert scrape["honor_labels"] is True
        # As in the example, with static targets: there are no Pods.
        del scrape["kubernetes_sd_configs"], scrape["relabel_configs"]
        scrape["scrape_interval"] = "1s"
        scrape["static_configs"] = [
            {"targets": [address], "labels": {"namespace": "operators", "pod": pod}}
            for pod, address in targets.items()
        ]
        scrape |= overrides
        config |= {"global": {"evaluation_interval": "1s"}, "rule_files": [str(RULES)]}
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> "Prometheus":
        self._process.launch(
            [
                program("prometheus"),
                f"--config.file={self._directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._directory / 'data'}",
                f"--web.listen-address={self._address}",
            ],
            os.environ,
            self._directory,
        )
        self._process.wait_until(lambda: self._get("/-/ready"), "Prometheus is not ready", 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop(30)

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and current value of each series."""
        answer = self._api("query", query=expression)
        return [(each["metric"], float(each["value"][1])) for each in answer["result"]]

    def history(self, expression: str, since: float) -> list[float]:
        """Return the values of a series since then, one per second."""
        answer = self._api(
            "query_range", query=expression, start=str(since), end=str(time.time()), step="1"
        )
        return [float(value) for each in answer["result"] for _, value in each["values"]]

    def scraped(self, metric: str) -> list[tuple[float, dict[str, str], float]]:
        """Return time, labels and value of the last ten minutes' samples."""
        answer = self._api("query", query=f"{metric}[10m]")
        samples = [
            (time_, each["metric"], float(value))
            for each in answer["result"]
            for time_, value in each["values"]
        ]
        return sorted(samples, key=lambda sample: sample[0])

    def own(self, metric: str) -> float:
        """Return the sum of one of its own metrics."""
        text = (self._get("/metrics") or b"").decode()
        return sum(float(value) for value in re.findall(rf"^{metric}(?:{{.*}})? (.+)$", text, re.M))

    def _api(self, path: str, **query: str) -> Any:
        body = self._get(f"/api/v1/{path}?{urlencode(query)}")
        assert body, f"Prometheus does not answer {query}"
        answer = json.loads(body)
        assert answer["status"] == "success", answer
        return answer["data"]

    def _get(self, path: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"http://{self._address}{path}", timeout=10) as answer:
                return answer.read()
        except OSError:
            return None


def program(name: str) -> str:
    """Return the path of Prometheus; without it, skip, or fail in CI."""
    if found := shutil.which(name):
        return found
    sentence = f"{name} is missing: apt-get install --no-install-recommends prometheus"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)
