"""The dashboard of the operator itself: its processes, and what they ask of others."""

from dev.generate.dashboards.grafana import (
    GREEN,
    JSON,
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
"""Of series that carry no namespace of their own: theirs is the pod's."""

_RARE = " No line means that nothing happened."


def operator_dashboard() -> JSON:
    """Return the dashboard."""
    return dashboard(
        "Wazzup / Operator",
        "Health of the operator: leader, passes, queues, Wazzup's API, the API server, watches, the"
        " webhook and its certificate, memory. Namespace and job are those of the operator's pods.",
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
    """Return p50, p95 and p99."""
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
                "Replicas that lead. A change of leader takes up to 22 s; after that, 0 means that"
                " nobody writes statuses, and 2 that two replicas do.",
                f"sum by (cluster, namespace, job) ({leads})",
                thresholds=steps((None, RED), (1, GREEN), (2, RED)),
            ),
            stat(
                "Certificate expires in",
                "Time until the webhook's certificate expires, the shortest of all replicas. The"
                " controller renews it after two thirds of its validity.",
                f"min(wazzup_operator_webhook_certificate_expiration_timestamp_seconds{{{CHOSEN}}})"
                " - time()",
                unit="s",
                thresholds=steps((None, RED), (86_400, YELLOW), (604_800, GREEN)),
            ),
            table(
                "Processes",
                "Version, Python and start time of each process.",
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
                "Which replica led when. Standbys keep a copy of the objects and report no"
                " channels.",
                Query(f"max by (cluster, instance) ({leads})", "{{instance}}"),
                texts({"1": ("leads", GREEN), "0": ("stands by", "blue")}),
            ),
            series(
                "asyncio tasks",
                "A number that only grows is a leak.",
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
                "Passes over accounts by result: success; requeue_after, something is retried;"
                " error, a defect whose traceback is in the log.",
                Query(_rate("controller_runtime_reconcile_total", "result"), "{{result}}"),
                unit="ops",
            ),
            series(
                "Time of a pass",
                "Duration of a pass, including the listing and the writes." + _RARE,
                *_quantiles("controller_runtime_reconcile_time_seconds"),
                unit="s",
            ),
            series(
                "Passes under way",
                "Accounts with a pass in progress. One that stays for minutes hangs; after ten,"
                " /healthz fails.",
                Query(
                    f"sum by (cluster, instance) (controller_runtime_active_workers{{{CHOSEN}}})",
                    "{{instance}}",
                ),
                unit="short",
            ),
            series(
                "What waits",
                "Statuses waiting to be written (16 are written at once) and Events waiting to be"
                " posted.",
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
                "Writes of statuses",
                "By kind and result. outdated is replanned; refused and unreachable are retried;"
                " not_kept means that the CRDs are older than the operator.",
                Query(_rate("wazzup_status_writes_total", "kind, result"), "{{kind}} {{result}}"),
                unit="wps",
            ),
            series(
                "Events that were not posted",
                "Too many were waiting, or the API server did not accept them. Statuses are not"
                " affected.",
                Query(
                    f"sum(rate(wazzup_operator_events_dropped_total{{{CHOSEN}}}[$__rate_interval]))",
                    "dropped",
                ),
                unit="ops",
            ),
            series(
                "From a new object to its first status",
                "Time from applying a WazzupChannel to its first status." + _RARE,
                *_quantiles("wazzup_channel_first_status_seconds"),
                unit="s",
            ),
            series(
                "From a change in Wazzup to the status",
                "Time from the listing that first showed a new state to the object's status. That"
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
                "By HTTP status or kind of failure. 401 and 403: the key; 429: too many requests.",
                Query(_rate("wazzup_api_requests_total", "operation, code"), "{{code}}"),
                unit="reqps",
            ),
            series(
                "Time until Wazzup has answered",
                "Duration of requests, including failures." + _RARE,
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
                "By method and HTTP status, of both processes. 409 is an outdated status, 429 means"
                " too many requests.",
                Query(_rate("rest_client_requests_total", "method, code"), "{{method}} {{code}}"),
                unit="reqps",
            ),
            series(
                "Time until the API server begins to answer",
                "By method; of a watch, only the time until it begins." + _RARE,
                *_quantiles("rest_client_request_duration_seconds", "verb"),
                unit="s",
            ),
            series(
                "Silence of the watches",
                "Time since the last list, event or bookmark of each watch. The API server sends a"
                " bookmark each minute; after 150 s of silence a watch is restarted.",
                Query(
                    "max by (cluster, resource, instance)"
                    f" (wazzup_operator_watch_silence_seconds{{{JOB}}})",
                    "{{resource}} {{instance}}",
                ),
                unit="s",
            ),
            series(
                "Lists of everything",
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
                "Verdicts on new objects and changed specs: allowed, warned or denied.",
                Query(
                    _rate("wazzup_webhook_reviews_total", "kind, verdict"),
                    "{{kind}} {{verdict}}",
                ),
                unit="reqps",
            ),
            series(
                "Reviews by HTTP status",
                "A refusal is an answer, 200. The failurePolicy decides about everything else,"
                " unchecked.",
                Query(
                    _rate("controller_runtime_webhook_requests_total", "webhook, code"),
                    "{{webhook}} {{code}}",
                ),
                unit="reqps",
            ),
            series(
                "Time of a review",
                "Duration of a review. The API server waits for 3 s, unless the chart's"
                " webhook.timeoutSeconds says otherwise." + _RARE,
                *_quantiles("controller_runtime_webhook_latency_seconds", "webhook"),
                unit="s",
            ),
            series(
                "Reviews under way",
                "Reviews that the webhook is answering now.",
                Query(
                    "sum by (cluster, webhook, instance)"
                    f" (controller_runtime_webhook_requests_in_flight{{{CHOSEN}}})",
                    "{{webhook}} {{instance}}",
                ),
                unit="short",
            ),
            series(
                "Loads of the certificate",
                "Attempts to load a changed certificate, and failed ones, after which the previous"
                " certificate stays in use.",
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
                "Cores that each process uses. One that uses a whole core may fail to renew its"
                " Lease.",
                Query(_rate("process_cpu_seconds_total", "instance"), "{{instance}}"),
                unit="short",
                width=8,
            ),
            series(
                "Open files",
                "Open file descriptors, as a share of each process's limit.",
                Query(
                    f"process_open_fds{{{CHOSEN}}} / process_max_fds{{{CHOSEN}}}", "{{instance}}"
                ),
                unit="percentunit",
                width=8,
            ),
        ],
    )
