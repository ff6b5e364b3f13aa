"""docs/metrics.md: every metric, from observability/metrics.py."""

from typing import cast

from prometheus_client import ProcessCollector

from dev.generate.document import table
from wazzup_operator.observability.metrics import DECLARED, Metric, MetricType


def sections() -> dict[str, str]:
    """Return a table for each process, and one for what both report."""
    both = [each for each in DECLARED if each.process == "both"] + process_metrics()
    groups = {
        process: [each for each in DECLARED if each.process == process]
        for process in ("controller", "webhook")
    }
    return {
        process: table(("metric", "type", "labels", "meaning"), map(_row, metrics))
        for process, metrics in {**groups, "both": both}.items()
    }


def process_metrics() -> list[Metric]:
    """Return the client library's metrics of a process on Linux."""
    found = {each.name: each for each in ProcessCollector(registry=None).collect()}
    return [
        Metric(
            f"{name}_total" if family.type == "counter" else name,
            cast(MetricType, family.type),
            family.documentation,
            (),
            "both",
        )
        for name, family in sorted(found.items())
    ]


def _row(metric: Metric) -> tuple[str, ...]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"`{metric.name}`", metric.kind, labels, metric.meaning
