"""The operator dashboard: the processes, and their requests to Wazzup and the API server."""

from dev.generate.dashboards.grafana import (
    GREEN,
    JSON,
    OPERATOR,
    RED,
    YELLOW,
    Query,
    Row,
    dashboard,
    override,
    series,
    stat,
    steps,
    table,
    texts,
    timeline,
    variable,
)

JOB = 'cluster=~"$cluster",job=~"$job"'
CHOSEN = f'namespace=~"$namespace",{JOB}'
"""Selects series whose `namespace` is the Pod's."""

_RARE = " No line while there are no measurements."


def operator_dashboard() -> JSON:
    """Return the dashboard."""
    return dashboard(
        OPERATOR,
        "Health of the operator: leader, passes, queues, Wazzup's API, the API server, watches, the"
        " webhook and its certificate, memory. Namespace and job are those of the operator's Pods.",
        [
            variable("cluster", "Cluster", "label_values(wazzup_operator_build_info, cluster)"),
            variable(
                "namespace",
                "Namespace",
                'label_values(wazzup_operator_build_info{cluster=~"$cluster"}, namespace)',
            ),
            variable(
                "job",
                "Job",
                "label_values(wazzup_operator_build_info"
                '{cluster=~"$cluster",namespace=~"$namespace"}, job)',
            ),
        ],
        [_replicas(), _passes(), _statuses(), _wazzup(), _api_server(), _webhook(), _process()],
    )


def _rate(metric: str, by: str, *matchers: str) -> str:
    chosen = ",".join([CHOSEN, *matchers])
    return f"sum by (cluster, {by}) (rate({metric}{{{chosen}}}[$__rate_interval]))"


def _quantiles(metric: str, by: str = "") -> list[Query]:
    """Return queries for the median, 95th and 99th percentile."""
    legend = f"{{{{{by}}}}} " if by else ""
    rate = _rate(f"{metric}_bucket", f"le, {by}" if by else "le")
    return [
        Query(f"histogram_quantile({quantile}, {rate})", f"{legend}p{round(quantile * 100)}")
        for quantile in (0.5, 0.95, 0.99)
    ]


def _replicas() -> Row:
    # Other operators have this metric too.
    leads = (
        f"leader_election_master_status{{{CHOSEN}}}"
        " and on (cluster, job, instance) wazzup_operator_build_info"
    )
    return Row(
        "Replicas",
        [
            stat(
                "Leaders",
                "How many replicas lead. It should be 1, except while the leader changes. With 0,"
                " nobody writes statuses; with 2, both do.",
                f"sum by (cluster, namespace, job) ({leads})",
                thresholds=steps((None, RED), (1, GREEN), (2, RED)),
            ),
            stat(
                "Certificate expires in",
                "Remaining validity of the webhook's serving certificate, the shortest of all"
                " replicas. The controller renews it after two thirds of its validity.",
                f"min(wazzup_operator_webhook_certificate_expiration_timestamp_seconds{{{CHOSEN}}})"
                " - time()",
                unit="s",
                thresholds=steps((None, RED), (86_400, YELLOW), (604_800, GREEN)),
            ),
            table(
                "Processes",
                "Version, Python version and start time of each process.",
                Query(
                    "max by (cluster, instance, job, version, python_version)"
                    f" (wazzup_operator_build_info{{{CHOSEN}}})"
                    " * on (cluster, instance, job) group_left ()"
                    " max by (cluster, instance, job)"
                    f" (process_start_time_seconds{{{CHOSEN}}}) * 1000"
                ),
                columns={
                    "cluster": "Cluster",
                    "job": "Job",
                    "instance": "Instance",
                    "version": "Version",
                    "python_version": "Python",
                    "Value": "Started",
                },
                width=16,
                height=6,
                overrides=[override("Started", unit="dateTimeFromNow")],
                sort="Job",
            ),
            timeline(
                "Who leads",
                "Which replica led when. Standbys watch the objects too, but report no metrics of"
                " channels.",
                Query(f"max by (cluster, instance) ({leads})", "{{instance}}"),
                texts({"1": ("leads", GREEN), "0": ("stands by", "blue")}),
            ),
            series(
                "asyncio tasks",
                "If the number only grows, tasks leak.",
                Query(f"wazzup_operator_tasks{{{CHOSEN}}}", "{{instance}}"),
                unit="short",
            ),
        ],
    )


def _passes() -> Row:
    return Row(
        "Passes over accounts",
        [
            series(
                "Passes",
                "Passes over accounts by result: success; requeue_after, the next pass does the"
                " rest; error, an unexpected error, which the log has with a traceback.",
                Query(_rate("controller_runtime_reconcile_total", "result"), "{{result}}"),
                unit="ops",
            ),
            series(
                "Duration of a pass",
                "Includes the listing and the writes." + _RARE,
                *_quantiles("controller_runtime_reconcile_time_seconds"),
                unit="s",
            ),
            series(
                "Passes in progress",
                "Accounts with a pass in progress. A pass that takes minutes hangs; after ten"
                " minutes, /healthz fails.",
                Query(
                    f"sum by (cluster, instance) (controller_runtime_active_workers{{{CHOSEN}}})",
                    "{{instance}}",
                ),
                unit="short",
            ),
            series(
                "Queues",
                "Statuses to write (16 are written at a time) and Events to post.",
                Query(f"sum by (cluster, name) (workqueue_depth{{{CHOSEN}}})", "{{name}}"),
                unit="short",
            ),
        ],
    )


def _statuses() -> Row:
    return Row(
        "Statuses",
        [
            series(
                "Status writes",
                "By kind and result. outdated ones are computed again; refused and unreachable ones"
                " are retried; not_kept means that the CRDs are older than the operator.",
                Query(_rate("wazzup_status_writes_total", "kind, result"), "{{kind}} {{result}}"),
                unit="wps",
            ),
            series(
                "Dropped Events",
                "The queue was full, or posting failed. Statuses are not affected.",
                Query(
                    f"sum(rate(wazzup_operator_events_dropped_total{{{CHOSEN}}}[$__rate_interval]))",
                    "dropped",
                ),
                unit="ops",
            ),
            series(
                "From a new object to its first status",
                "From the creation of a WazzupChannel to its first status." + _RARE,
                *_quantiles("wazzup_channel_first_status_seconds"),
                unit="s",
            ),
            series(
                "From a change in Wazzup to the status",
                "From the first listing with a channel's new state to the written status. That"
                " listing comes up to one pollInterval after the change." + _RARE,
                *_quantiles("wazzup_channel_change_to_status_seconds"),
                unit="s",
            ),
        ],
    )


def _wazzup() -> Row:
    return Row(
        "Wazzup's API",
        [
            series(
                "Requests to Wazzup",
                "By HTTP status or kind of failure. 401 and 403: wrong API key; 429: too many"
                " requests.",
                Query(_rate("wazzup_api_requests_total", "operation, code"), "{{code}}"),
                unit="reqps",
            ),
            series(
                "Duration of requests to Wazzup",
                "Includes failed requests." + _RARE,
                *_quantiles("wazzup_api_request_duration_seconds"),
                unit="s",
            ),
        ],
    )


def _api_server() -> Row:
    return Row(
        "Kubernetes API server",
        [
            series(
                "Requests to the API server",
                "By method and HTTP status, of both processes. 409: the object had changed; 429:"
                " the API server is overloaded.",
                Query(_rate("rest_client_requests_total", "method, code"), "{{method}} {{code}}"),
                unit="reqps",
            ),
            series(
                "Time until the API server answers",
                "Until the response headers, by method; a watch counts only until then." + _RARE,
                *_quantiles("rest_client_request_duration_seconds", "verb"),
                unit="s",
            ),
            series(
                "Silence of the watches",
                "Time since the last list, event or bookmark. The API server sends a bookmark every"
                " minute; after 150 s without one, the operator reopens the watch.",
                Query(
                    "max by (cluster, resource, instance)"
                    f" (wazzup_operator_watch_silence_seconds{{{JOB}}})",
                    "{{resource}} {{instance}}",
                ),
                unit="s",
            ),
            series(
                "Relists",
                "Full lists in the last hour: after a start, and when a watch could not resume.",
                Query(
                    "sum by (cluster, resource, instance)"
                    f" (increase(wazzup_operator_relists_total{{{JOB}}}[1h]))",
                    "{{resource}} {{instance}}",
                ),
                unit="short",
            ),
        ],
    )


def _webhook() -> Row:
    return Row(
        "Webhook",
        [
            series(
                "Changes by verdict",
                "New objects and changed specs: allowed, warned or denied.",
                Query(
                    _rate("wazzup_webhook_reviews_total", "kind, verdict"),
                    "{{kind}} {{verdict}}",
                ),
                unit="reqps",
            ),
            series(
                "Reviews by HTTP status",
                "A denied review is answered with 200. For any other code, the failurePolicy"
                " decides: Ignore accepts the change, Fail refuses it.",
                Query(
                    _rate("controller_runtime_webhook_requests_total", "webhook, code"),
                    "{{webhook}} {{code}}",
                ),
                unit="reqps",
            ),
            series(
                "Duration of a review",
                "The API server waits 3 s, unless the chart's webhook.timeoutSeconds says"
                " otherwise." + _RARE,
                *_quantiles("controller_runtime_webhook_latency_seconds", "webhook"),
                unit="s",
            ),
            series(
                "Reviews in progress",
                "Reviews that the webhook has not answered yet.",
                Query(
                    "sum by (cluster, webhook, instance)"
                    f" (controller_runtime_webhook_requests_in_flight{{{CHOSEN}}})",
                    "{{webhook}} {{instance}}",
                ),
                unit="short",
            ),
            series(
                "Failed lookups",
                "Lookups of other objects that failed. Without the lookup of wazzupchannels, the"
                " failurePolicy decides on a new object.",
                Query(
                    _rate("wazzup_webhook_lookup_failures_total", "resource, cause"),
                    "{{resource}} {{cause}}",
                ),
                unit="ops",
            ),
            series(
                "Certificate loads",
                "Attempts to load a changed certificate. After a failed attempt, the webhook keeps"
                " serving the old one.",
                Query(
                    _rate("certwatcher_read_certificate_total", "instance"), "{{instance}} attempts"
                ),
                Query(
                    _rate("certwatcher_read_certificate_errors_total", "instance"),
                    "{{instance}} failures",
                ),
                unit="ops",
            ),
        ],
    )


def _process() -> Row:
    return Row(
        "Processes",
        [
            series(
                "Memory",
                "Resident memory of each process.",
                Query(f"process_resident_memory_bytes{{{CHOSEN}}}", "{{instance}}"),
                unit="bytes",
                width=8,
            ),
            series(
                "CPU",
                "Cores that each process uses. At a whole core, the leader may lose its Lease.",
                Query(_rate("process_cpu_seconds_total", "instance"), "{{instance}}"),
                unit="short",
                width=8,
            ),
            series(
                "Open files",
                "Open file descriptors, as a share of the process's limit.",
                Query(
                    f"process_open_fds{{{CHOSEN}}} / process_max_fds{{{CHOSEN}}}", "{{instance}}"
                ),
                unit="percentunit",
                width=8,
            ),
        ],
    )
