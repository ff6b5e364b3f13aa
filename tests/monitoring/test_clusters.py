"""A day of two clusters in one Prometheus, each with two releases, and the rules of all four."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from dev.controlplane.binaries import helm, promtool
from dev.generate.alerts.rules import NAMES
from dev.generate.files import CHART

STEP = 4
"""Minutes between two samples."""

DAY, HOUR = 24 * 60 // STEP, 60 // STEP

# Series | values while all is well, "-" for none | values during the fault of an alert, by alert.
SERIES = """
leader_election_master_status{$controller, name="$lease"} | 1 | OperatorAbsent: - NoLeader: 0
leader_election_master_status{$standby, name="$lease"} | - | TwoLeaders: 1
wazzup_operator_build_info{$controller} | 1 |
wazzup_operator_build_info{$standby} | 1 |
wazzup_operator_build_info{$webhook} | 1 |
wazzup_account_up{$account} | 1 | AccountDown: 0
wazzup_channels{$account, active="true", state="Active"} | 1 |
wazzup_channels{$account, active="true", state="NotPaidFor"} | - | AccountOutOfMoney: 9
wazzup_channels_without_account{$objects} | 0 | AccountMissing: 2
wazzup_channel_state{$channel, label_team="$team", active="true", state="Off", reason="Off", by=""} | 1 | ChannelNeedsAction: -
wazzup_channel_state{$channel, label_team="$team", active="true", state="Off", reason="Off", by="console"} | - | ChannelNeedsAction: 1
wazzup_channel_state_since_timestamp_seconds{$channel} | 0 | ChannelFlapping: 1+1
wazzup_account_unknown_since_timestamp_seconds{$account} | - | ChannelUnknown: $begin
controller_runtime_reconcile_errors_total{$controller, controller="wazzupaccount"} | 0 | ReconcileFailing: 0+1
wazzup_status_writes_total{$controller, result="refused"} | 0 | StatusWritesFailing: 0+1
wazzup_operator_watch_silence_seconds{$controller, resource="wazzupchannels"} | 0 | WatchSilent: 400
wazzup_channels_without_series{$controller, active="true", ready="false"} | 0 | SeriesLimited: 3
wazzup_operator_webhook_certificate_not_before_timestamp_seconds{$webhook} | 0 |
wazzup_operator_webhook_certificate_expiration_timestamp_seconds{$webhook} | 7776000 | WebhookAbsent: - WebhookCertificateExpires: $end
controller_runtime_webhook_requests_total{$webhook, webhook="channel", code="200"} | 0+1 |
controller_runtime_webhook_requests_total{$webhook, webhook="channel", code="500"} | 0 | WebhookFailing: 0+1
wazzup_webhook_lookup_failures_total{$webhook, resource="wazzupchannels", cause="timeout"} | 0 | WebhookLookupsFailing: 0+1
apiserver_admission_webhook_fail_open_count{$cluster, name="channel.wazzup.dev", instance="$lease"} | 0 | WebhookNotReached: 0+1
wazzup_operator_webhook_certificate_maintained{$controller} | 1 | WebhookCertificateNotMaintained: 0
"""  # noqa: E501


@dataclass(frozen=True)
class Release:
    """A release of the chart, whose objects are in one namespace. Both clusters use these names."""

    cluster: str
    namespace: str
    lease: str

    @property
    def team(self) -> str:
        """The label of its channel."""
        return f"{self.cluster}-{self.namespace}"

    def labels(self) -> dict[str, str]:
        """Return the labels of each kind of series, in promtool's notation."""
        cluster = f'cluster="{self.cluster}"'
        here = f'{cluster}, namespace="{self.namespace}"'
        objects = f'{cluster}, namespace="shop-{self.namespace}"'
        account = f'{objects}, account="default"'
        return {
            "cluster": cluster,
            "lease": self.lease,
            "team": self.team,
            "objects": objects,
            "account": account,
            "channel": f'{account}, name="support"',
            "controller": f'{here}, job="{self.lease}-metrics", instance="a", pod="a"',
            "standby": f'{here}, job="{self.lease}-metrics", instance="b", pod="b"',
            "webhook": f'{here}, job="{self.lease}-webhook", instance="c", pod="c"',
        }


RELEASES = [
    Release(cluster, namespace, lease)
    for cluster in ("east", "west")
    for namespace, lease in (("ops", "wz"), ("team", "wz-team"))
]


@dataclass(frozen=True)
class Fault:
    """The fault of one alert, in one release, during some steps of the day."""

    alert: str
    release: Release
    start: int

    @property
    def length(self) -> int:
        """What is absent must alert for as long as it is; others have their hour."""
        return 9 * HOUR if self.alert.endswith("Absent") else HOUR - 2

    @property
    def end(self) -> int:
        return self.start + self.length

    def tests(self) -> list[Any]:
        """Expect the alert for this release during the fault, and for no other all day."""
        firing = f'ALERTS{{alertname="{self.alert}", alertstate="firing"}}'
        by = "cluster, namespace" if "NotReached" not in self.alert else "cluster"
        where = f'cluster="{self.release.cluster}"'
        if by != "cluster":
            of_objects = self.alert.startswith(("WazzupAccount", "WazzupChannel"))
            where += f', namespace="{"shop-" * of_objects}{self.release.namespace}"'
        if self.alert in {"WazzupChannelNeedsAction", "WazzupChannelFlapping"}:
            by += ", label_team"
            where += f', label_team="{self.release.team}"'
        here = [{"labels": f"{{{where}}}", "value": 1}]
        return [
            _test(f"group by ({by}) (last_over_time({firing}[24h]))", DAY, here),
            _test(firing, self.start - 1, []),
            _test(f"group by ({by}) ({firing})", self.end - 1, here),
            # NotReached and Flapping end an hour after the last call or change.
            _test(firing, min(DAY, self.end + HOUR + 2), []),
        ]


def _test(expression: str, step: int, expected: list[Any]) -> Any:
    return {"expr": expression, "eval_time": f"{step * STEP}m", "exp_samples": expected}


# What is absent is so for hours, so it comes first.
ORDER = sorted(NAMES, key=lambda name: (not name.endswith("Absent"), -NAMES.index(name)))
FAULTS = [
    Fault(alert, RELEASES[number % len(RELEASES)], (number + 2) * HOUR)
    for number, alert in enumerate(ORDER)
]


def _series(release: Release) -> list[dict[str, str]]:
    """Return all series of a release, for the whole day."""
    return [
        _one_series(release, *(part.strip() for part in line.split("|")))
        for line in SERIES.strip().splitlines()
    ]


def _one_series(release: Release, name: str, sound: str, faults: str) -> dict[str, str]:
    values = _steps(sound, DAY)
    for alert, broken in re.findall(r"(\w+): (\S+)", faults):
        (fault,) = (each for each in FAULTS if each.alert == f"Wazzup{alert}")
        if fault.release == release:
            minutes = {"begin": fault.start, "end": fault.end + 1}
            seconds = {key: steps * STEP * 60 for key, steps in minutes.items()}
            broken = Template(broken).substitute(seconds)
            values[fault.start : fault.end] = _steps(broken, fault.length)
    return {
        "series": Template(name).substitute(release.labels()),
        "values": " ".join(values),
    }


def _steps(notation: str, steps: int) -> list[str]:
    """Return the values of some steps; "2+1" grows by 1 per step, "-" is no value."""
    if notation == "-":
        return ["stale"] * steps
    begin, _, growth = notation.partition("+")
    return [str(int(begin) + step * int(growth or 0)) for step in range(steps)]


def _rules(release: Release, path: Path) -> Path:
    """Write the rules that the release's chart renders."""
    rendered = subprocess.run(
        [
            *(helm(), "template", release.lease, CHART, f"--namespace={release.namespace}"),
            *("--show-only=templates/monitoring/prometheusrule.yaml",),
            f"--set=prometheusRule.enabled=true,prometheusRule.cluster={release.cluster}",
            "--set=settings.metricLabels={team}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    path.write_text(yaml.safe_dump(yaml.safe_load(rendered.stdout)["spec"]))
    return path


def test_each_alert_fires_for_the_right_cluster_and_only_then(tmp_path: Path) -> None:
    assert {fault.release for fault in FAULTS} == set(RELEASES)
    assert max(fault.end for fault in FAULTS) < DAY
    test = {
        "interval": f"{STEP}m",
        "input_series": [series for release in RELEASES for series in _series(release)],
        "promql_expr_test": [each for fault in FAULTS for each in fault.tests()],
    }
    rules = [str(_rules(each, tmp_path / f"{number}.yaml")) for number, each in enumerate(RELEASES)]
    path = tmp_path / "test.yaml"
    path.write_text(
        yaml.safe_dump({"rule_files": rules, "evaluation_interval": f"{STEP}m", "tests": [test]})
    )
    done = subprocess.run([promtool(), "test", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
