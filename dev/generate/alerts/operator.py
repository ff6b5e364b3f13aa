"""Alerts on the controller: replicas, passes, writes, watches."""

from dev.generate.alerts.alert import JOB, LOGS, OURS, PODS, WHERE, Alert, Record, Severity

LEADERS = "wazzup:leaders:sum"
"""By Lease, which identifies a release even where the scrape's `job` changes."""

_WRITES = f"sum by ({JOB}, kind, result)"
_LEASE = "{{ $labels.namespace }} (Lease {{ $labels.name }})"

RECORDS = (
    Record(
        LEADERS,
        "Leaders by Lease.",
        f"sum by (cluster, namespace, name) (leader_election_master_status {OURS})",
    ),
)

ALERTS = (
    Alert(
        "WazzupOperatorAbsent",
        Severity.CRITICAL,
        f"absent({LEADERS})",  # the chart adds which one
        "5m",
        "No replica of the Wazzup operator is scraped"
        "{{ with $labels.namespace }} in {{ . }}{{ end }}",
        "No replica of the controller runs, or none can be scraped. Channels keep working in"
        " Wazzup, but a channel that stops is not noticed, because no other alert can fire.",
        f"{PODS}controller",
    ),
    Alert(
        "WazzupNoLeader",
        Severity.CRITICAL,
        f"{LEADERS} == 0",
        "3m",
        f"No replica of the Wazzup operator leads in {_LEASE}",
        "Replicas of the controller run, but none leads: none can acquire the Lease or list the"
        " objects, or the leader cannot be scraped. A channel that stops is not noticed.",
        f"{LOGS}controller",
    ),
    Alert(
        "WazzupTwoLeaders",
        Severity.WARNING,
        f"{LEADERS} > 1",
        "5m",
        f"{{{{ $value }}}} replicas of the Wazzup operator lead in {_LEASE}",
        "Several replicas of the controller lead at once. Each polls Wazzup, sums over channels are"
        " too high, and statuses change back and forth if versions or settings differ.",
        f"{LOGS}controller",
    ),
    Alert(
        "WazzupReconcileFailing",
        Severity.WARNING,
        f"sum by ({JOB})"
        ' (rate(controller_runtime_reconcile_errors_total{controller="wazzupaccount"}[10m])) > 0',
        "15m",
        f"Passes of the Wazzup operator fail in {WHERE}",
        "Passes over an account have failed with an unexpected error for 15 minutes, so the"
        " statuses of that account do not change. The log names the account and has a traceback.",
        f"{LOGS}controller",
    ),
    Alert(
        "WazzupStatusWritesFailing",
        Severity.WARNING,
        f'{_WRITES} (rate(wazzup_status_writes_total{{result=~"refused|unreachable"}}[10m])) > 0\n'
        # not_kept is retried with the next listing, up to an hour later.
        f'or {_WRITES} (increase(wazzup_status_writes_total{{result="not_kept"}}[2h])) > 0',
        "15m",
        "Statuses of {{ $labels.kind }}s cannot be written ({{ $labels.result }})",
        "Status writes have failed for 15 minutes, so kubectl and GitOps tools show old statuses."
        ' {{ if eq $labels.result "refused" }}The API server refuses them: a permission is missing,'
        ' or an admission policy forbids it.{{ else if eq $labels.result "unreachable" }}The API'
        " server does not answer.{{ else }}The CRDs are older than the operator and drop fields:"
        " apply the CRDs of this version.{{ end }}",
        f"{LOGS}controller",
    ),
    Alert(
        "WazzupWatchSilent",
        Severity.WARNING,
        f"max by ({JOB}, pod, resource) (wazzup_operator_watch_silence_seconds) > 300",
        "5m",
        "The Wazzup operator cannot watch {{ $labels.resource }}",
        "Pod {{ $labels.pod }} has received nothing about {{ $labels.resource }} for"
        " {{ $value | humanizeDuration }}, so it misses new and changed objects. Its log says why.",
        f"{PODS}controller",
    ),
    Alert(
        "WazzupSeriesLimited",
        Severity.WARNING,
        f'max by ({JOB}) (wazzup_channels_without_series{{active="true", ready="false"}}) > 0',
        "15m",
        "{{ $value }} Wazzup channels that are not ready cannot alert",
        "{{ $value }} channels are declared active, are not ready and have no metrics of their own,"
        " because more than --channel-series-limit are not ready. No alert names them.",
        f"{PODS}controller",
    ),
)
