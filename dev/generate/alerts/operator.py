"""The alerts on the operator itself: its replicas, its loop, the webhook.

They are told apart by `namespace` and `job`, which a scrape adds: two installations do not count as
one with two leaders. Names that other operators have too count for ours only.
"""

from dev.generate.alerts.alert import Alert, Severity, in_words, over, spelled
from dev.generate.alerts.thresholds import (
    CERTIFICATE_PENDING,
    CERTIFICATE_SHARE,
    CERTIFICATE_STEP,
    CERTIFICATE_WINDOW,
    FAILURE_PENDING,
    FAILURE_WINDOW,
    NO_LEADER,
    NOT_KEPT_WINDOW,
    OPERATOR_ABSENT,
    RECENTLY,
    SERIES_PENDING,
    TWO_LEADERS,
    WATCH_PENDING,
    WATCH_SILENCE,
    WEBHOOK_FAILURE_SHARE,
)

# Each replica of the controller tells the one, and the one that leads tells the other.
_REPLICA = "wazzup_operator_events_dropped_total"
_ACTING = "wazzup_channels_without_series"

_RATE = spelled(FAILURE_WINDOW)
_OURS = "and on (job, instance) wazzup_operator_build_info"
_CERTIFICATE = "wazzup_operator_webhook_certificate_expiration_timestamp_seconds"
_EXPIRES = f"min by (namespace, job) ({_CERTIFICATE})"
_LEFT = f"{_EXPIRES} - time()"
_LONGEST = over("max_over_time", _LEFT, CERTIFICATE_WINDOW, CERTIFICATE_STEP)
_JOB = "{{ $labels.namespace }} (job {{ $labels.job }})"


def _gone(metric: str) -> str:
    """Return the installations that had this not long ago and have it nowhere any more."""
    recently = f"group by (namespace, job) (max_over_time({metric}[{spelled(RECENTLY)}]))"
    return f"{recently} unless on (namespace, job) {metric}"


def _reviews(matchers: str = "") -> str:
    """Return how many reviews there are in a second, by webhook."""
    rate = f"rate(controller_runtime_webhook_requests_total{matchers}[{_RATE}])"
    return f"sum by (namespace, job, webhook) ({rate} {_OURS})"


_FAILED_REVIEWS = _reviews('{code!="200"}')

REPLICAS = (
    Alert(
        "WazzupOperatorAbsent",
        Severity.CRITICAL,
        (
            _gone(_REPLICA),
            # One that has been gone for longer, or was never there.
            f"or (absent({_REPLICA})"
            f" unless on () group(max_over_time({_REPLICA}[{spelled(RECENTLY)}])))",
        ),
        OPERATOR_ABSENT,
        "No replica of the Wazzup operator is scraped"
        "{{ with $labels.namespace }} in {{ . }}{{ end }}",
        "No replica of the controller runs, or none is scraped. Channels go on working in Wazzup,"
        " but nobody sees it when they stop, and no other alert tells of it.",
    ),
    Alert(
        "WazzupNoLeader",
        Severity.CRITICAL,
        (
            f"count by (namespace, job) ({_REPLICA})",
            f"unless on (namespace, job) {_ACTING}",
        ),
        NO_LEADER,
        f"No replica of the Wazzup operator acts in {_JOB}",
        f"For {in_words(NO_LEADER)} or more none of the "
        "{{ $value }} replicas of the controller that are scraped acts: none has the Lease, or what"
        " it leads cannot be listed, or the one that acts cannot be scraped. Nobody sees it when a"
        " channel stops.",
    ),
    Alert(
        "WazzupTwoLeaders",
        Severity.WARNING,
        (f"count by (namespace, job) ({_ACTING}) > 1",),
        TWO_LEADERS,
        f"{{{{ $value }}}} replicas of the Wazzup operator act at once in {_JOB}",
        "{{ $value }} replicas of the controller act at once. Each status is still written over the"
        " version only that it was planned for, but Wazzup is asked by each of them, and sums over"
        " channels that are not the dashboard's count each channel as often.",
    ),
    Alert(
        "WazzupReconcileFailing",
        Severity.WARNING,
        (
            "sum by (namespace, job) (rate("
            f'controller_runtime_reconcile_errors_total{{controller="wazzupaccount"}}[{_RATE}]'
            ")) > 0",
        ),
        FAILURE_PENDING,
        f"Passes of the Wazzup operator fail in {_JOB}",
        f"For {in_words(FAILURE_PENDING)} or more passes over an account have ended by a surprise,"
        " which is a mistake in the operator. They are tried again; until one succeeds, the"
        " statuses of that account stay as they are. Its name and a trace are in the log.",
    ),
    Alert(
        "WazzupStatusWritesFailing",
        Severity.WARNING,
        (
            "sum by (namespace, job, kind, result) (rate("
            f'wazzup_status_writes_total{{result=~"refused|unreachable"}}[{_RATE}]'
            ")) > 0",
            # Tried again with a listing, of which there may be one in an hour.
            "or sum by (namespace, job, kind, result) (increase("
            f'wazzup_status_writes_total{{result="not_kept"}}[{spelled(NOT_KEPT_WINDOW)}]'
            ")) > 0",
        ),
        FAILURE_PENDING,
        "Statuses of {{ $labels.kind }}s cannot be written ({{ $labels.result }})",
        f"For {in_words(FAILURE_PENDING)} or more statuses have not been stored"
        " ({{ $labels.result }}): what kubectl and GitOps tools show is old."
        ' {{ if eq $labels.result "refused" }}The API server refuses them: a right is missing, or'
        ' an admission rule is in the way.{{ else if eq $labels.result "unreachable" }}The API'
        " server does not answer.{{ else }}The CRDs are older than the operator, and fields are"
        " dropped: apply the CRDs of this version.{{ end }}",
    ),
    Alert(
        "WazzupWatchSilent",
        Severity.WARNING,
        (
            "max by (namespace, job, pod, resource) (wazzup_operator_watch_silence_seconds)"
            f" > {WATCH_SILENCE.total_seconds():.0f}",
        ),
        WATCH_PENDING,
        "The Wazzup operator hears nothing of {{ $labels.resource }}",
        "A watch of {{ $labels.resource }} in the pod {{ $labels.pod }} has been without a sign for"
        " {{ $value | humanizeDuration }}: new and changed objects are not seen. The pod's log says"
        " why; if it says nothing, the process hangs, and its liveness probe is missing.",
    ),
    Alert(
        "WazzupSeriesLimited",
        Severity.INFO,
        (f"max by (namespace, job) ({_ACTING}) > 0",),
        SERIES_PENDING,
        "{{ $value }} Wazzup channels have no series of their own",
        "There are {{ $value }} channels beyond --channel-series-limit. Those that are not ready"
        " have series first, so alerts on channels miss something only once more channels than the"
        " limit are not ready.",
    ),
)

WEBHOOK = (
    Alert(
        "WazzupWebhookAbsent",
        Severity.WARNING,
        (_gone(_CERTIFICATE),),
        OPERATOR_ABSENT,
        f"No replica of the Wazzup webhook is scraped any more in {_JOB}",
        "No replica of the webhook runs, or none is scraped. With the failurePolicy Ignore wrong"
        " objects are let in meanwhile, with Fail no object can be made or changed.",
    ),
    Alert(
        "WazzupWebhookFailing",
        Severity.WARNING,
        (f"{_FAILED_REVIEWS} / {_reviews()} > {WEBHOOK_FAILURE_SHARE}",),
        FAILURE_PENDING,
        "The Wazzup webhook {{ $labels.webhook }} gives no answers",
        "{{ $value | humanizePercentage }} of the reviews of {{ $labels.webhook }} get no answer."
        " With the failurePolicy Ignore wrong objects are let in then, with Fail no object can be"
        " made or changed.",
    ),
    Alert(
        "WazzupWebhookCertificateExpires",
        Severity.WARNING,
        (f"{_LEFT} < {CERTIFICATE_SHARE} * {_LONGEST}",),
        CERTIFICATE_PENDING,
        "The certificate of the Wazzup webhook is not renewed",
        "The certificate that the webhook serves expires in {{ $value | humanizeDuration }} and"
        " should have been renewed long ago. Once it has expired, the API server reaches the"
        " webhook no more.",
    ),
)
