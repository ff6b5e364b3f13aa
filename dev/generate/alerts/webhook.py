"""Alerts on the webhook and its certificate, for releases with a webhook."""

from dev.generate.alerts.alert import JOB, LOGS, OURS, PODS, WHERE, Alert, Record, Severity

REVIEWS = "wazzup:webhook_reviews:rate10m"
LEFT = "wazzup:webhook_certificate_left:ratio"
CALLS = "wazzup:webhook_failed_calls"

_EXPIRES = "wazzup_operator_webhook_certificate_expiration_timestamp_seconds"
_BEGAN = "wazzup_operator_webhook_certificate_not_before_timestamp_seconds"
_LOOKUPS = f"sum by ({JOB}, resource, cause)"
_FAILED = "wazzup_webhook_lookup_failures_total"

_ACCEPTED = "apiserver_admission_webhook_fail_open_count"
_REFUSED = "apiserver_admission_webhook_rejection_count"
_OUR_NAMES = 'name=~"(account|channel)[.]wazzup[.]dev"'
"""The webhooks' names in the chart; several releases share them."""

RECORDS = (
    Record(
        LEFT,
        "Share of the validity of the webhook's certificate that is left.",
        f"min by ({JOB}) (\n({_EXPIRES} - time())\n/ ({_EXPIRES} - {_BEGAN}))",
    ),
    Record(
        REVIEWS,
        "Reviews per second by webhook and HTTP status.",
        f"sum by ({JOB}, webhook, code)\n"
        f"(rate(controller_runtime_webhook_requests_total[10m]) {OURS})",
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
        "WazzupWebhookAbsent",
        Severity.WARNING,
        f"absent({LEFT})",  # the chart adds which one
        "5m",
        "No replica of the Wazzup webhook is scraped"
        "{{ with $labels.namespace }} in {{ . }}{{ end }}",
        "No replica of the webhook runs, or none has a certificate, or none can be scraped. With"
        " failurePolicy Ignore, invalid objects are accepted; with Fail, no object can be created"
        " or changed.",
        f"{PODS}webhook",
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
        f"{LOGS}webhook",
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
        f"{LOGS}webhook",
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
        f"The certificate of the Wazzup webhook is not renewed in {WHERE}",
        "Less than a tenth of the validity of the webhook's certificate is left; it should have"
        " been renewed with a third left. Once it expires, the API server cannot call the webhook.",
        f"{LOGS}webhook",
    ),
    Alert(
        "WazzupWebhookCertificateNotMaintained",
        Severity.WARNING,
        f"min by ({JOB}) (wazzup_operator_webhook_certificate_maintained) == 0",
        "15m",
        f"The Wazzup operator cannot maintain its webhook's certificate in {WHERE}",
        "The Secret is missing, a permission is missing, or somebody else changes the same objects."
        " Replicas of the webhook serve the certificate that they have loaded until it expires;"
        " a replica that starts now may get none.",
        f"{LOGS}controller",
    ),
)
