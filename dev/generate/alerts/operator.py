"""Alerts on the operator itself: replicas, passes, the webhook.

`namespace` and `job`, which the scrape adds, identify an installation. Other operators have some of
these metrics too, so only targets with wazzup_operator_build_info count.
"""

from dev.generate.alerts.alert import JOB, Alert, Record, Severity

LEADERS = "wazzup:leaders:sum"
REVIEWS = "wazzup:webhook_reviews:rate10m"
LEFT = "wazzup:webhook_certificate_left:ratio"
CALLS = "wazzup:webhook_failed_calls"

_OURS = "and on (cluster, job, instance) wazzup_operator_build_info"
_EXPIRES = "wazzup_operator_webhook_certificate_expiration_timestamp_seconds"
_BEGAN = "wazzup_operator_webhook_certificate_not_before_timestamp_seconds"
_WRITES = f"sum by ({JOB}, kind, result)"
_LOOKUPS = f"sum by ({JOB}, resource, cause)"
_FAILED = "wazzup_webhook_lookup_failures_total"

_ACCEPTED = "apiserver_admission_webhook_fail_open_count"
_REFUSED = "apiserver_admission_webhook_rejection_count"
_OUR_NAMES = 'name=~"(account|channel)[.]wazzup[.]dev"'
"""The webhooks' names in the chart; several releases share them."""

_WHERE = "{{ $labels.namespace }} (job {{ $labels.job }})"
_LABEL = "-l app.kubernetes.io/name=wazzup-operator,app.kubernetes.io/component="
_PODS = f"kubectl get pods -A {_LABEL}"
_LOGS = f"kubectl -n {{{{ $labels.namespace }}}} logs --prefix --tail=100 {_LABEL}"


def _gone(record: str) -> str:
    """Return the installations whose series existed within 6 hours and are missing now."""
    return f"last_over_time({record}[6h]) unless {record}"


RECORDS = (
    Record(
        LEADERS,
        "Leaders in each installation.",
        f"sum by ({JOB}) (leader_election_master_status {_OURS})",
    ),
    Record(
        LEFT,
        "Share of the validity of the webhook's certificate that is left.",
        f"min by ({JOB}) (\n({_EXPIRES} - time())\n/ ({_EXPIRES} - {_BEGAN}))",
    ),
    Record(
        REVIEWS,
        "Reviews per second by webhook and HTTP status.",
        f"sum by ({JOB}, webhook, code)\n"
        f"(rate(controller_runtime_webhook_requests_total[10m]) {_OURS})",
    ),
    Record(
        CALLS,
        "Calls of a webhook that failed, as each API server counts them.",
        f"{_ACCEPTED}{{{_OUR_NAMES}}}\n"
        f'or {_REFUSED}{{{_OUR_NAMES}, error_type="calling_webhook_error"}}',
    ),
)

ALERTS = (
    Alert(
        "WazzupOperatorAbsent",
        Severity.CRITICAL,
        f"{_gone(LEADERS)}\nor absent_over_time({LEADERS}[6h])",
        "5m",
        "No replica of the Wazzup operator is scraped"
        "{{ with $labels.namespace }} in {{ . }}{{ end }}",
        "No replica of the controller runs, or none can be scraped. Channels keep working in"
        " Wazzup, but a channel that stops is not noticed, because no other alert can fire.",
        f"{_PODS}controller",
    ),
    Alert(
        "WazzupNoLeader",
        Severity.CRITICAL,
        f"{LEADERS} == 0",
        "3m",
        f"No replica of the Wazzup operator leads in {_WHERE}",
        "Replicas of the controller run, but none leads: none can acquire the Lease or list the"
        " objects, or the leader cannot be scraped. A channel that stops is not noticed.",
        f"{_LOGS}controller",
    ),
    Alert(
        "WazzupTwoLeaders",
        Severity.WARNING,
        f"{LEADERS} > 1",
        "5m",
        f"{{{{ $value }}}} replicas of the Wazzup operator lead in {_WHERE}",
        "Several replicas of the controller lead at once. Each polls Wazzup, sums over channels are"
        " too high, and statuses change back and forth if versions or settings differ.",
        f"{_LOGS}controller",
    ),
    Alert(
        "WazzupReconcileFailing",
        Severity.WARNING,
        f"sum by ({JOB})"
        ' (rate(controller_runtime_reconcile_errors_total{controller="wazzupaccount"}[10m])) > 0',
        "15m",
        f"Passes of the Wazzup operator fail in {_WHERE}",
        "Passes over an account have failed with an unexpected error for 15 minutes, so the"
        " statuses of that account do not change. The log names the account and has a traceback.",
        f"{_LOGS}controller",
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
        f"{_LOGS}controller",
    ),
    Alert(
        "WazzupWatchSilent",
        Severity.WARNING,
        f"max by ({JOB}, pod, resource) (wazzup_operator_watch_silence_seconds) > 300",
        "5m",
        "The Wazzup operator cannot watch {{ $labels.resource }}",
        "Pod {{ $labels.pod }} has received nothing about {{ $labels.resource }} for"
        " {{ $value | humanizeDuration }}, so it misses new and changed objects. Its log says why.",
        f"kubectl get pods -A {_LABEL}controller",
    ),
    Alert(
        "WazzupSeriesLimited",
        Severity.WARNING,
        f'max by ({JOB}) (wazzup_channels_without_series{{active="true", ready="false"}}) > 0',
        "15m",
        "{{ $value }} Wazzup channels that are not ready cannot alert",
        "{{ $value }} channels are declared active, are not ready and have no metrics of their own,"
        " because more than --channel-series-limit are not ready. No alert names them.",
        f"{_PODS}controller",
    ),
    Alert(
        "WazzupWebhookAbsent",
        Severity.WARNING,
        _gone(LEFT),
        "5m",
        f"No replica of the Wazzup webhook is scraped in {_WHERE}",
        "No replica of the webhook runs, or none can be scraped. With failurePolicy Ignore,"
        " invalid objects are accepted; with Fail, no object can be created or changed.",
        f"{_PODS}webhook",
    ),
    Alert(
        "WazzupWebhookFailing",
        Severity.WARNING,
        # A review on an unknown path is refused, with 200; anything else there is no review.
        f'sum without (code) ({REVIEWS}{{code!="200", webhook!="unknown"}})\n'
        f"/ sum without (code) ({REVIEWS}) > 0.05",
        "15m",
        "Reviews of {{ $labels.webhook }}s fail in the Wazzup webhook",
        "{{ $value | humanizePercentage }} of the reviews of {{ $labels.webhook }}s fail. With"
        " failurePolicy Ignore, invalid objects are accepted; with Fail, no object can be created"
        " or changed.",
        f"{_LOGS}webhook",
    ),
    Alert(
        "WazzupWebhookLookupsFailing",
        Severity.WARNING,
        # A missing permission stays missing, even if nobody creates an object for a while.
        f'{_LOOKUPS} (increase({_FAILED}{{cause="forbidden"}}[1h])) > 0\n'
        f"or {_LOOKUPS} (rate({_FAILED}[10m])) > 0",
        "15m",
        "The Wazzup webhook cannot look up {{ $labels.resource }} ({{ $labels.cause }})",
        '{{ if eq $labels.resource "wazzupchannels" }}The webhook cannot tell whether the number of'
        " a new object is taken: with failurePolicy Ignore, duplicates are accepted; with Fail, no"
        " object can be created.{{ else }}The webhook cannot tell whether the account of a channel"
        " exists, so it does not warn if it is missing.{{ end }}"
        ' {{ if eq $labels.cause "forbidden" }}A permission is missing; the log names it.{{ else }}'
        "The API server answers too late or with an error.{{ end }}",
        f"{_LOGS}webhook",
    ),
    Alert(
        "WazzupWebhookNotReached",
        Severity.WARNING,
        f"sum by (cluster, name) (increase({CALLS}[1h])) > 0\n"
        # A series begins with the first failure, which increase() does not see.
        f"or sum by (cluster, name) ({CALLS} unless last_over_time({CALLS}[6h] offset 1h)) > 0",
        "",
        "The API server cannot call the Wazzup webhook {{ $labels.name }}",
        "Within the last hour, the API server has failed to call {{ $labels.name }}"
        ' {{ $value | printf "%.0f" }} times. With failurePolicy Ignore, it accepted these changes'
        " unreviewed; with Fail, it refused them.",
        "kubectl get validatingwebhookconfigurations -l app.kubernetes.io/name=wazzup-operator"
        " -o yaml",
    ),
    Alert(
        "WazzupWebhookCertificateExpires",
        Severity.WARNING,
        f"{LEFT} < 0.1",
        "5m",
        f"The certificate of the Wazzup webhook is not renewed in {_WHERE}",
        "Less than a tenth of the validity of the webhook's certificate is left; it should have"
        " been renewed with a third left. Once it expires, the API server cannot call the webhook.",
        f"{_LOGS}webhook",
    ),
    Alert(
        "WazzupWebhookCertificateNotMaintained",
        Severity.WARNING,
        f"min by ({JOB}) (wazzup_operator_webhook_certificate_maintained) == 0",
        "15m",
        f"The Wazzup operator cannot maintain its webhook's certificate in {_WHERE}",
        "The Secret is missing, a permission is missing, or somebody else changes the same objects."
        " Replicas of the webhook serve the certificate that they have loaded until it expires;"
        " a replica that starts now may get none.",
        f"{_LOGS}controller",
    ),
)
