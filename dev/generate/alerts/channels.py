"""Alerts on single channels. What they say about a state comes from the table of states."""

from datetime import timedelta

from dev.generate.alerts.alert import ACCOUNT, OBJECT, Alert, Record, Severity
from wazzup_operator.domain.reasons import Reason
from wazzup_operator.domain.states import Actor, State

UP = "wazzup:account_up"
STATE = "wazzup:channel_state"
UNKNOWN_SINCE = "wazzup:account_unknown_since"
"""Recording rules that the alerts on accounts use too."""

IS_UP = f"avg_over_time({UP}[10m]) >= 0.7"
"""Accounts that can be listed; a single failed listing does not count."""

_LABELS = "cluster, namespace, account, name, active, state, ready, reason, by"

PENDING = "15m"
"""At least the progress deadline: until then, somebody may be about to scan the code."""

DECLARATION: dict[str, str] = {
    Reason.DUPLICATE_PHONE_NUMBER: "An older object declares this number. Delete one of the two.",
    Reason.AMBIGUOUS_CHANNEL: (
        "Wazzup has several channels with this number. Set spec.channelID to the right one."
    ),
    Reason.CHANNEL_MISMATCH: (
        "spec.channelID belongs to another number. Recreate the object with the right id."
    ),
}
"""By reason: why a declaration matches no channel, and how to correct it."""

NOT_AS_DECLARED = (
    "The account has no channel with the declared spec.channelID or spec.transport. Correct the"
    " object as its status.action says."
)
"""NotAdded by declaration."""

_UNKNOWN_SINCE = "wazzup_account_unknown_since_timestamp_seconds"
_NAME = "{{ $labels.namespace }}/{{ $labels.name }}"
_SHOWS = "kubectl -n {{ $labels.namespace }} describe wzch {{ $labels.name }}"


def sentences() -> dict[str, str]:
    """Return meaning and action for each reason that needs somebody to act."""
    states = {
        str(state): f"{state.traits.meaning} {state.traits.action.summary}"
        for state in State
        if state.traits.action
    }
    return states | DECLARATION


def spelled(duration: timedelta) -> str:
    """Return a duration in PromQL's form, in the largest unit without a fraction."""
    seconds = int(duration.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def in_words(duration: timedelta) -> str:
    """Return a duration in words, such as "15 minutes"."""
    number, unit = spelled(duration)[:-1], spelled(duration)[-1]
    word = {"d": "day", "h": "hour", "m": "minute", "s": "second"}[unit]
    return f"{number} {word}" if number == "1" else f"{number} {word}s"


def _sentence() -> str:
    """Return a template with the meaning and action of the alert's reason."""
    not_as_declared = (
        f'and (eq $labels.reason "{State.NOT_ADDED}") (eq $labels.by "{Actor.DECLARATION}")'
    )
    cases = {not_as_declared: NOT_AS_DECLARED}
    cases |= {f'eq $labels.reason "{reason}"': text for reason, text in sentences().items()}
    chain = "{{ else ".join(f"if {when} }}}}{text}" for when, text in cases.items())
    return f"{{{{ {chain}{{{{ end }}}}"


def _overdue(state: State, after: timedelta) -> Alert:
    return Alert(
        "WazzupChannelNeedsAction",
        Severity.WARNING,
        f'max without (active, ready, state, by) ({STATE}{{active="true", reason="{state}"}})',
        spelled(after),
        f"Channel {_NAME} is still {state}",
        f"Channel {_NAME} of account {{{{ $labels.account }}}} has been {state} for"
        f" {in_words(after)}, which is too long. Contact Wazzup's support with the channel id.",
        _SHOWS,
        # Replace the series' labels, to tell these alerts from others of this name.
        {"by": Actor.SUPPORT, "state": state},
    )


RECORDS = (
    Record(
        STATE,
        "State of each WazzupChannel; kept for 10m while its series is missing.",
        f"max by ({_LABELS}) (wazzup_channel_state\n"
        f"or on ({OBJECT}) last_over_time(wazzup_channel_state[10m]))",
    ),
    Record(
        UNKNOWN_SINCE,
        "Since when an account has had an Unknown channel; kept for 10m while nobody leads.",
        f"min by ({ACCOUNT}) ({_UNKNOWN_SINCE}\n"
        f"or last_over_time({_UNKNOWN_SINCE}[10m]) unless on ({ACCOUNT}) wazzup_account_up)",
    ),
)

ALERTS = (
    Alert(
        "WazzupChannelNeedsAction",
        Severity.WARNING,
        f'max without (active, ready) ({STATE}{{active="true", by!=""}})',
        PENDING,
        f"Channel {_NAME} needs action: {{{{ $labels.reason }}}}",
        f"Channel {_NAME} of account {{{{ $labels.account }}}} is declared active and has not been"
        f" ready for 15 minutes ({{{{ $labels.reason }}}}, by: {{{{ $labels.by }}}})."
        f" {_sentence()}",
        _SHOWS,
    ),
    *(_overdue(state, state.traits.overdue) for state in State if state.traits.overdue),
    Alert(
        "WazzupChannelFlapping",
        Severity.WARNING,
        f"max without (active, state, ready, reason, by)"
        f' ({STATE}{{active="true", reason!="{Reason.PAUSED}"}})\n'
        f"and on ({OBJECT}) changes(wazzup_channel_state_since_timestamp_seconds[1h]) > 4",
        "",
        f"Channel {_NAME} is flapping",
        f"Channel {_NAME} of account {{{{ $labels.account }}}} has changed its state more than 4"
        " times within an hour. Check the phone's battery and internet, and whether somebody else"
        " uses the number.",
        _SHOWS,
    ),
    Alert(
        "WazzupChannelUnknown",
        Severity.WARNING,
        f"time() - {UNKNOWN_SINCE} > 1800\nand on ({ACCOUNT}) {IS_UP}",
        "",
        "Channels of account {{ $labels.namespace }}/{{ $labels.account }} are Unknown",
        "A channel of account {{ $labels.namespace }}/{{ $labels.account }} that is declared active"
        " has been Unknown for {{ $value | humanizeDuration }}, although the account can be listed."
        " Its rows in Wazzup's listing are ambiguous, or the operator does not process the object.",
        "kubectl -n {{ $labels.namespace }} get wzch -o wide",
    ),
)
