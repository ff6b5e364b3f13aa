"""The dashboard of the fleet: the channels, who has to do something, the accounts."""

from collections.abc import Iterable

from dev.generate.alerts.channels import DECLARATION
from dev.generate.dashboards.grafana import (
    GREEN,
    JSON,
    RED,
    YELLOW,
    Query,
    Row,
    bars,
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
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import TABLE, TURN_OFF, Carries, State, judge

NAMESPACE = 'cluster=~"$cluster",namespace=~"$namespace"'
CHOSEN = f'{NAMESPACE},account=~"$account"'

COLOURS: dict[str, str] = {state: row.colour for state, row in TABLE.items()}

_LIMITED = (
    "Only of objects that have series of their own (--channel-series-limit; those that are not"
    " Ready have theirs first)."
)


def fleet_dashboard() -> JSON:
    """Return the dashboard."""
    return dashboard(
        "Wazzup / Fleet",
        "How many channels are in which state, which of them need a person, and whether the Wazzup"
        " accounts can be listed. No object is counted twice while the leader changes.",
        [
            variable("cluster", "Cluster", "label_values(wazzup_channels, cluster)"),
            variable(
                "namespace",
                "Namespace",
                'label_values(wazzup_channels{cluster=~"$cluster"}, namespace)',
            ),
            variable(
                "account",
                "Account",
                f"label_values(wazzup_channels{{{NAMESPACE}}}, account)",
            ),
        ],
        [_now(), _persons(), _over_time(), _accounts()],
    )


def latest(metric: str, *labels: str, chosen: str = CHOSEN) -> str:
    """Return a metric by cluster, namespace and these labels, as the present leader reports it.

    A former leader's series stay until its next scrape, longer if its Pod is gone, and may differ
    from the new one's: their sum or maximum would count an object twice. The present leader is the
    one that was scraped last, judged by the metric that each leader has of every namespace. `max`
    is for two Prometheus that scrape the same replica.
    """
    who = "cluster, namespace, job, instance"
    when = f"max by ({who}) (timestamp(wazzup_channels{{{NAMESPACE}}}))"
    leader = f"topk by (cluster, namespace) (1, {when})"
    told = f"{metric}{{{chosen}}} and on ({who}) {leader}"
    return f"max by ({', '.join(('cluster', 'namespace', *labels))}) ({told})"


def counted(*matchers: str, by: str = "") -> str:
    """Return how many channels there are."""
    chosen = ",".join([CHOSEN, *matchers])
    each = latest("wazzup_channels", "account", "state", "active", chosen=chosen)
    return f"sum by ({by}) ({each})" if by else f"sum({each})"


def _any_of(states: Iterable[State]) -> str:
    return "|".join(states)


def _now() -> Row:
    passing = [state for state, row in TABLE.items() if row.carries in (Carries.YES, Carries.MAYBE)]
    return Row(
        "Now",
        [
            stat(
                "Declared on",
                "Channels that are meant to carry messages (spec.active: true).",
                counted('active="true"'),
            ),
            stat(
                "Active",
                "Channels that are meant to carry messages and do.",
                counted('active="true"', 'state="Active"'),
                thresholds=steps((None, GREEN)),
            ),
            stat(
                "On, but not Active",
                "Channels that are meant to carry messages and are in another state. Who must do"
                " what is below.",
                counted('active="true"', 'state!~"Active|Unknown"'),
                thresholds=steps((None, GREEN), (1, RED)),
            ),
            stat(
                "Unknown",
                "Channels of which nothing certain is known: the account cannot be listed, another"
                " object has the number, or the object is new.",
                counted('state="Unknown"'),
                thresholds=steps((None, GREEN), (1, YELLOW)),
            ),
            stat(
                "Declared off",
                "Channels that are not meant to carry messages (spec.active: false).",
                counted('active="false"'),
            ),
            stat(
                "Off, but still on",
                "Channels that are declared off and in a state in which messages pass or may pass."
                " Somebody has to turn them off in Wazzup.",
                counted('active="false"', f'state=~"{_any_of(passing)}"'),
                thresholds=steps((None, GREEN), (1, RED)),
            ),
            bars(
                "Declared on, by state",
                "Channels that are meant to carry messages, by the state that Wazzup shows.",
                Query(counted('active="true"', by="state") + " > 0", "{{state}}"),
                COLOURS,
            ),
            bars(
                "Declared off, by state",
                "Channels that are not meant to carry messages, by the state that Wazzup shows.",
                Query(counted('active="false"', by="state") + " > 0", "{{state}}"),
                COLOURS,
            ),
            table(
                "By account and state",
                "How many channels of each account are in which state, declared on and off.",
                Query(counted(by="cluster, namespace, account, state, active") + " > 0"),
                columns={
                    "cluster": "Cluster",
                    "namespace": "Namespace",
                    "account": "Account",
                    "state": "State",
                    "active": "Declared",
                    "Value": "Channels",
                },
                width=8,
                overrides=[
                    _coloured("State"),
                    override("Declared", mappings=texts({"true": "on", "false": "off"})),
                ],
                sort="Channels",
                descending=True,
            ),
        ],
    )


def _persons() -> Row:
    labels = ("name", "account", "transport", "active", "state", "ready", "reason", "by")
    state = latest("wazzup_channel_state", *labels, chosen=f'{CHOSEN},ready="false"')
    since = latest("wazzup_channel_state_since_timestamp_seconds", "name", chosen=NAMESPACE)
    listed = f"{state} * on (cluster, namespace, name) group_left () {since} * 1000"
    acting = latest("wazzup_channel_state", *labels, chosen=f'{CHOSEN},by!=""')
    return Row(
        "What needs a person",
        [
            table(
                "Not Ready",
                "Every channel that is not as it is declared, the longest first: who must act, and"
                f" how. kubectl describe wzch shows more. {_LIMITED}",
                Query(f'label_join({listed}, "todo", "", "reason")'),
                columns={
                    "cluster": "Cluster",
                    "namespace": "Namespace",
                    "name": "Channel",
                    "account": "Account",
                    "active": "Declared",
                    "state": "State",
                    "reason": "Reason",
                    "by": "By",
                    "Value": "Since",
                    "todo": "What to do",
                },
                width=24,
                height=12,
                overrides=[
                    _coloured("State"),
                    override("Declared", mappings=texts({"true": "on", "false": "off"})),
                    override("Since", unit="dateTimeFromNow"),
                    override("What to do", mappings=texts(TO_DO), custom_width=520),
                ],
                sort="Since",
            ),
            series(
                "Waiting, by who must act",
                "Channels that need somebody: whoever holds the phone, billing, somebody with"
                " access to Wazzup (console), Wazzup's support, or the YAML's owner (declaration)."
                f" {_LIMITED}",
                Query(f"count by (by) ({acting})", "{{by}}"),
                unit="short",
                width=16,
                stacked=True,
            ),
            stat(
                "Without series of their own",
                "WazzupChannels that these two panels cannot show: there are more than"
                " --channel-series-limit. Counts include them.",
                "max(wazzup_channels_without_series)",
                width=8,
                thresholds=steps((None, GREEN), (1, YELLOW)),
            ),
        ],
    )


def _to_do(state: State) -> str:
    verdict = judge(state, active=True)
    return verdict.action.summary if verdict.action else verdict.message


TO_DO: dict[str, str | tuple[str, str]] = {
    **{str(state): _to_do(state) for state in State if judge(state, active=True).ready is False},
    **DECLARATION,
    Reason.STILL_ACTIVE: TURN_OFF.summary,
}
"""By reason of Ready: what a person does, or why nobody has to."""


def _over_time() -> Row:
    return Row(
        "Over time",
        [
            series(
                f"Declared {spelled}, by state, over time",
                f"How many channels that are declared {spelled} were in which state when.",
                Query(counted(f'active="{active}"', by="state"), "{{state}}"),
                unit="short",
                stacked=True,
                colours=COLOURS,
            )
            for spelled, active in (("on", "true"), ("off", "false"))
        ],
    )


def _accounts() -> Row:
    def each(metric: str) -> str:
        return latest(metric, "account")

    by_name = "{{namespace}}/{{account}}"
    up = texts({"1": ("up", GREEN), "0": ("down", RED)})
    return Row(
        "Accounts",
        [
            table(
                "Accounts",
                "Whether each account can be listed, when it last was, how often in a row it could"
                " not be, and how many channels it has that no object declares (counted up to 100)."
                " Without a value for Up, that is not known yet or the account is paused.",
                Query(each("wazzup_account_up")),
                Query(f"{each('wazzup_account_last_sync_timestamp_seconds')} * 1000"),
                Query(each("wazzup_account_consecutive_failures")),
                Query(each("wazzup_account_unmanaged_channels")),
                columns={
                    "cluster": "Cluster",
                    "namespace": "Namespace",
                    "account": "Account",
                    "Value #A": "Up",
                    "Value #B": "Last listed",
                    "Value #C": "Failures in a row",
                    "Value #D": "Unmanaged",
                },
                width=12,
                height=8,
                overrides=[
                    override("Up", mappings=up, custom_cellOptions={"type": "color-text"}),
                    override("Last listed", unit="dateTimeFromNow"),
                ],
                sort="Up",
            ),
            timeline(
                "Up",
                "When each account could be listed. Nothing is shown while that was unknown or the"
                " account was paused.",
                Query(each("wazzup_account_up"), by_name),
                up,
            ),
            series(
                "Since the last listing",
                "How long ago each account was last listed. Statuses stay as they were until"
                " --stale-after has passed, then they turn Unknown.",
                Query(f"time() - {each('wazzup_account_last_sync_timestamp_seconds')}", by_name),
                unit="s",
            ),
            series(
                "Failures in a row",
                "Consecutive failures to list each account.",
                Query(each("wazzup_account_consecutive_failures"), by_name),
                unit="short",
            ),
            series(
                "Unmanaged channels",
                "Channels in each Wazzup account that no object declares, counted up to 100. Their"
                " ids are in the account's status.unmanaged.",
                Query(each("wazzup_account_unmanaged_channels"), by_name),
                unit="short",
            ),
        ],
    )


def _coloured(column: str) -> JSON:
    return override(
        column,
        mappings=texts({state: (state, colour) for state, colour in COLOURS.items()}),
        custom_cellOptions={"type": "color-text"},
    )
