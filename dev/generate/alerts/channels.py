"""The alerts on channels: one for each remedy in the table of states."""

from dev.generate.alerts.accounts import DOWN, OUT_OF_MONEY
from dev.generate.alerts.alert import Alert, Severity, in_words, over
from dev.generate.alerts.sentences import sentence
from dev.generate.alerts.thresholds import (
    CHANNEL_BAD_MINUTES,
    CHANNEL_PENDING,
    CHANNEL_WINDOW,
    FLAPPING_WINDOW,
    PATIENCE,
    STEADY_CHANGES,
)
from wazzup_operator.domain.states import TABLE, Remedy, State

CHANNEL = "{{ $labels.namespace }}/{{ $labels.name }}"

REMEDIES = {
    Remedy.MONEY: ("WazzupChannelNotPaidFor", "is not paid for"),
    Remedy.SCAN: ("WazzupChannelNeedsScan", "needs somebody with its phone"),
    Remedy.SWITCH: ("WazzupChannelSwitchedOff", "is switched off in Wazzup, or open elsewhere"),
    Remedy.PHONE: ("WazzupChannelPhoneUnreachable", "has no connection with its phone"),
    Remedy.META: ("WazzupChannelHeldByMeta", "is held by Meta"),
    Remedy.SUPPORT: ("WazzupChannelNeedsSupport", "needs Wazzup's support"),
}
"""The alert for each remedy, and what its summary says of the channel."""

_FLAPS = (
    over(
        "changes",
        "max by (namespace, name) (wazzup_channel_state_since_timestamp_seconds)",
        FLAPPING_WINDOW,
    )
    + f" > {STEADY_CHANGES}"
)
# A channel that is ready again ends its alert at once, and so does one whose state is another now,
# but not one that goes to and fro. Without an operator there is neither, and what was so stays.
_HEALTHY = (
    "unless on (namespace, name) (max by (namespace, name) (wazzup_channel_ready) == 1"
    f" unless on (namespace, name) {_FLAPS})"
)
_BAD_NOW = 'wazzup_channel_state{active="true", state!="Active"}'
_LEFT = f"unless on (namespace, name) ({_BAD_NOW} unless on (namespace, name) {_FLAPS})"
# What is so now, so that both end an alert at once, and a new beginning has its whole deadline. The
# second is a channel that is there and says neither ready nor not. Without an operator there is
# neither, and what was so before stays.
_SWITCHED_OFF = 'unless on (namespace, name) wazzup_channel_state{active="false"}'
_PAUSED_OR_UNKNOWN = (
    "unless on (namespace, name)"
    " (wazzup_channel_state unless on (namespace, name) wazzup_channel_ready)"
)
_ACCOUNT_DOWN = f"unless on (namespace, account) {DOWN}"
_ACCOUNT_OUT_OF_MONEY = f"unless on (namespace, account) {OUT_OF_MONEY}"


def _was_in(states: tuple[State, ...]) -> str:
    """Return the channels that were for some minutes in one of these states, declared active."""
    one = f'="{states[0]}"' if len(states) == 1 else f'=~"{"|".join(states)}"'
    minutes = over(
        "sum_over_time",
        "max by (namespace, account, name, state)"
        f' (wazzup_channel_state{{active="true", state{one}}})',
        CHANNEL_WINDOW,
    )
    bad = f"{minutes} >= {CHANNEL_BAD_MINUTES}"
    return f"({bad} and on (namespace, name, state) {_BAD_NOW}\nor {bad} {_LEFT})"


def _long_in(state: State) -> str:
    """Return the channels in a state that takes its time, once it has taken longer."""
    since = over(
        "max_over_time",
        "max by (namespace, name) (wazzup_channel_state_since_timestamp_seconds)",
        CHANNEL_WINDOW,
    )
    age = f"time() - {since} > {PATIENCE[state].total_seconds():.0f}"
    return f"({_was_in((state,))} and on (namespace, name) {age})"


def _clauses(states: tuple[State, ...], *silenced_by: str) -> tuple[str, ...]:
    at_once = tuple(state for state in states if state not in PATIENCE)
    patient = [_long_in(state) for state in states if state in PATIENCE]
    was_in = [_was_in(at_once), *patient] if at_once else patient
    # In PromQL `or` binds less than `unless`, so the first lines are in parentheses.
    first = was_in[0] if len(was_in) == 1 else "(\n" + "\nor\n".join(was_in) + "\n)"
    return (
        *first.split("\n"),
        _HEALTHY,
        _SWITCHED_OFF,
        _PAUSED_OR_UNKNOWN,
        _ACCOUNT_DOWN,
        *silenced_by,
    )


def _by_state(states: tuple[State, ...]) -> str:
    """Return a template that says the sentence of the alert's state."""
    (first, *others) = states
    if not others:
        return sentence(first)
    cases = [
        f'{{{{ {"else if" if number else "if"} eq $labels.state "{state}" }}}}{sentence(state)}'
        for number, state in enumerate(states)
    ]
    return f"{''.join(cases)}{{{{ end }}}}"


def _alert(remedy: Remedy) -> Alert:
    name, says = REMEDIES[remedy]
    states = tuple(state for state, row in TABLE.items() if row.remedy is remedy)
    silenced_by = (_ACCOUNT_OUT_OF_MONEY,) if remedy is Remedy.MONEY else ()
    return Alert(
        name,
        Severity.WARNING,
        _clauses(states, *silenced_by),
        CHANNEL_PENDING,
        f"The channel {CHANNEL} {says}",
        f"The channel {CHANNEL} of the account {{{{ $labels.account }}}} is declared active and has"
        f" hardly been ready for {in_words(CHANNEL_PENDING)} or more ({{{{ $labels.state }}}})."
        f" {_by_state(states)}",
        states,
    )


def _misdeclared() -> Alert:
    """Return the alert on objects that are refused for what they declare.

    Ready is False, and what the channel is in is not known. No state of a channel is the cause, so
    the table has no sentence for it.
    """
    return Alert(
        "WazzupChannelMisdeclared",
        Severity.WARNING,
        _clauses((State.UNKNOWN,)),
        CHANNEL_PENDING,
        f"The channel {CHANNEL} is declared in a way that cannot be carried out",
        f"The object {CHANNEL} of the account {{{{ $labels.account }}}} is declared active and gets"
        " no channel: another object has its number, Wazzup has several channels with it, or its"
        " channelID is another number's. Which of these says:"
        " kubectl -n {{ $labels.namespace }} describe wzch {{ $labels.name }}",
        (State.UNKNOWN,),
    )


ALERTS = (*(_alert(remedy) for remedy in REMEDIES), _misdeclared())
"""All of them; Remedy.NOTHING has none."""
