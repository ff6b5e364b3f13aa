"""The fleet dashboard: channels, who must act, accounts."""

from collections.abc import Iterable

from dev.generate.alerts.channels import DECLARATION
from dev.generate.dashboards.grafana import (
    FLEET,
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
from wazzup_operator.domain.states import TURN_OFF, Carries, State, judge

NAMESPACE = 'cluster=~"$cluster",namespace=~"$namespace"'
CHOSEN = f'{NAMESPACE},account=~"$account"'

COLOURS: dict[str, str] = {state: state.traits.colour for state in State}

_LIMITED = (
    "Shows only channels with their own series (--channel-series-limit); active ones that are not"
    " Ready get series first."
)


def fleet_dashboard() -> JSON:
    """Return the dashboard."""
    return dashboard(
        FLEET,
        "How many channels are in each state, which of them need a person, and whether the Wazzup"
        " accounts can be listed. No object counts twice while the leader changes.",
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
    """Return a metric by cluster, namespace and these labels, as the current leader reports it.

    The old leader's series stay until its next scrape, longer if its Pod is gone, and may differ
    from the new leader's: their sum or maximum would count an object twice. The replica that was
    scraped last is the current leader; `wazzup_channels` shows it, because every leader has it for
    every namespace. `max` covers two Prometheus servers that scrape the same replica.
    """
    who = "cluster, namespace, job, instance"
    when = f"max by ({who}) (timestamp(wazzup_channels{{{NAMESPACE}}}))"
    leader = f"topk by (cluster, namespace) (1, {when})"
    reported = f"{metric}{{{chosen}}} and on ({who}) {leader}"
    return f"max by ({', '.join(('cluster', 'namespace', *labels))}) ({reported})"


def counted(*matchers: str, by: str = "") -> str:
    """Return the query that counts channels."""
    chosen = ",".join([CHOSEN, *matchers])
    each = latest("wazzup_channels", "account", "state", "active", chosen=chosen)
    return f"sum by ({by}) ({each})" if by else f"sum({each})"


def number(*matchers: str) -> str:
    """Return the query that counts channels, 0 if there are none."""
    return f"{counted(*matchers)} or 0 * {counted()}"


def _any_of(states: Iterable[State]) -> str:
    return "|".join(states)


def _now() -> Row:
    carrying = [state for state in State if state.traits.carries in (Carries.YES, Carries.MAYBE)]
    return Row(
        "Now",
        [
            stat(
                "Declared on",
                "Channels that should carry messages (spec.active: true).",
                number('active="true"'),
            ),
            stat(
                "Active",
                "Channels that should carry messages and do.",
                number('active="true"', 'state="Active"'),
                thresholds=steps((None, GREEN)),
            ),
            stat(
                "On, but not Active",
                "Channels that should carry messages and are in another state. The table below says"
                " who must do what.",
                number('active="true"', 'state!~"Active|Unknown"'),
                thresholds=steps((None, GREEN), (1, RED)),
            ),
            stat(
                "Unknown",
                "Channels whose state is unknown: the account cannot be listed, another object has"
                " the number, or the object is new.",
                number('state="Unknown"'),
                thresholds=steps((None, GREEN), (1, YELLOW)),
            ),
            stat(
                "Declared off",
                "Channels that should not carry messages (spec.active: false).",
                number('active="false"'),
            ),
            stat(
                "Off, but still on",
                "Channels that are declared off but carry, or may carry, messages. Somebody must"
                " turn them off in Wazzup.",
                number('active="false"', f'state=~"{_any_of(carrying)}"'),
                thresholds=steps((None, GREEN), (1, RED)),
            ),
            bars(
                "Declared on, by state",
                "Channels that should carry messages, by their state in Wazzup.",
                Query(counted('active="true"', by="state") + " > 0", "{{state}}"),
                COLOURS,
            ),
            bars(
                "Declared off, by state",
                "Channels that should not carry messages, by their state in Wazzup.",
                Query(counted('active="false"', by="state") + " > 0", "{{state}}"),
                COLOURS,
            ),
            table(
                "By account and state",
                "How many channels of each account are in each state, declared on or off.",
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
                "Every channel that is not as declared, the longest first: who must act, and how."
                f" kubectl describe wzch shows more. {_LIMITED}",
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
                "Channels that need action from whoever has the phone (phone), pays for Wazzup"
                " (billing), has access to Wazzup (console) or owns the YAML (declaration), or from"
                f" Wazzup's support (support). {_LIMITED}",
                Query(f"count by (by) ({acting})", "{{by}}"),
                unit="short",
                width=16,
                stacked=True,
            ),
            stat(
                "Without their own series",
                "WazzupChannels that these two panels cannot show, because there are more than"
                " --channel-series-limit. Counts include them.",
                "sum(max by (cluster, namespace, job, active, ready)"
                ' (wazzup_channels_without_series{cluster=~"$cluster"}))',
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
"""What to do for each reason of Ready, or why nobody has to act."""


def _over_time() -> Row:
    return Row(
        "Over time",
        [
            series(
                f"Declared {spelled}, by state, over time",
                f"Channels that are declared {spelled}, by state.",
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
                "Whether each account can be listed, when it was last listed, its consecutive"
                " failed listings, and its channels that no object declares (100 means 100 or"
                " more). Up is empty while unknown or paused; the last two are empty without any.",
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
                "When each account could be listed. Empty while unknown or paused.",
                Query(each("wazzup_account_up"), by_name),
                up,
            ),
            series(
                "Since the last listing",
                "Time since each account was last listed. States are kept until --stale-after has"
                " passed, then they turn Unknown.",
                Query(f"time() - {each('wazzup_account_last_sync_timestamp_seconds')}", by_name),
                unit="s",
            ),
            series(
                "Failures in a row",
                "Consecutive failed listings of each account.",
                Query(each("wazzup_account_consecutive_failures"), by_name),
                unit="short",
            ),
            series(
                "Unmanaged channels",
                "Channels in each Wazzup account that no object declares; 100 means 100 or more."
                " Their ids are in the account's status.unmanaged.",
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
