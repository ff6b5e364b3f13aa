"""Alerting and recording rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

RUNBOOKS = "wazzup-operator/docs/runbooks.md"
"""Repository and page; the chart replaces it with the URL where it is published."""

OBJECT = "cluster, namespace, name"
ACCOUNT = "cluster, namespace, account"
NAMESPACE = "cluster, namespace"
JOB = "cluster, namespace, job"
"""Labels that identify a WazzupChannel, an account, a namespace and an installation. One
Prometheus may hold several clusters; with a single cluster, `cluster` is empty. `namespace` and
`job` of an installation come from the scrape."""

OURS = "and on (cluster, job, instance) wazzup_operator_build_info"
"""Ends an expression with metrics that other operators have too."""

WHERE = "{{ $labels.namespace }} (job {{ $labels.job }})"
_LABEL = "-l app.kubernetes.io/name=wazzup-operator,app.kubernetes.io/component="
PODS = f"kubectl get pods -A {_LABEL}"
LOGS = f"kubectl -n {{{{ $labels.namespace }}}} logs --prefix --tail=100 {_LABEL}"


class Severity(StrEnum):
    """When somebody must look at an alert."""

    CRITICAL = "critical"
    """Day and night: a whole account is down, or failures go unnoticed."""
    WARNING = "warning"
    """Office hours: one channel is down, or something will get worse."""


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule; `meaning` becomes a comment in the rules file."""

    name: str
    meaning: str
    expression: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule.

    `pending` is its `for`; empty if it fires at once. `shows` is the command to run next, which
    ends the description.
    """

    name: str
    severity: Severity
    expression: str
    pending: str
    summary: str
    description: str
    shows: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def runbook(self) -> str:
        """Page and anchor of its runbook."""
        return f"{RUNBOOKS}#{self.name.lower()}"


Rule = Record | Alert
