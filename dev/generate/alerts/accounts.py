"""The alerts on accounts. What silences others by their expressions is defined here."""

from dev.generate.alerts.alert import Alert, Severity, in_words, over
from dev.generate.alerts.sentences import sentence
from dev.generate.alerts.thresholds import (
    ACCOUNT_MISSING_PENDING,
    ACCOUNT_PENDING,
    ACCOUNT_UP_SHARE,
    ACCOUNT_WINDOW,
    CHANNEL_PENDING,
    CHANNEL_WINDOW,
    FLAPPING_WINDOW,
    STEADY_CHANGES,
    SYNC_AGE,
    SYNC_PENDING,
    UNPAID_SHARE,
)
from wazzup_operator.domain.states import TABLE, Remedy, State

_UP_NOW = "max by (namespace, account) (wazzup_account_up)"
_UP = over("avg_over_time", _UP_NOW, ACCOUNT_WINDOW)
DOWN = f"({_UP} < {ACCOUNT_UP_SHARE})"
"""Accounts that cannot be listed."""

_FLAPS = f"{over('changes', _UP_NOW, FLAPPING_WINDOW)} > {STEADY_CHANGES}"
_WELL_AGAIN = (
    f"unless on (namespace, account) ({_UP_NOW} == 1 unless on (namespace, account) {_FLAPS})"
)

# Every account has the one, and an account that is paused lacks the other.
PAUSED = "(wazzup_account_unmanaged_channels unless on (namespace, account) wazzup_account_up)"
"""Accounts that are paused."""

UNPAID_STATES = tuple(state for state, row in TABLE.items() if row.remedy is Remedy.MONEY)
_DECLARED = 'sum by (namespace, account) (wazzup_channels{active="true"})'
_UNPAID = (
    'sum by (namespace, account) (wazzup_channels{active="true", state=~"'
    + "|".join(UNPAID_STATES)
    + '"})'
)
OUT_OF_MONEY = (
    "("
    + over("avg_over_time", f"{_UNPAID} / ({_DECLARED} > 0)", CHANNEL_WINDOW)
    + f" > {UNPAID_SHARE})"
)
"""Accounts most of whose active channels are not paid for."""

ACCOUNT = "{{ $labels.namespace }}/{{ $labels.account }}"
_SAYS = "kubectl -n {{ $labels.namespace }} describe wzacc {{ $labels.account }}"

ALERTS = (
    Alert(
        "WazzupAccountDown",
        Severity.CRITICAL,
        (DOWN, f"unless on (namespace, account) {PAUSED}", _WELL_AGAIN),
        ACCOUNT_PENDING,
        f"The channels of the Wazzup account {ACCOUNT} cannot be listed",
        f"For {in_words(ACCOUNT_PENDING)} or more the operator has hardly been able to list the"
        f" channels of the account {ACCOUNT}: its API key or its Secret is wrong, or Wazzup cannot"
        " be reached. What its channels are in is not known, and no alert tells of them meanwhile."
        f" Which of the two it is, and what to do, says: {_SAYS}",
    ),
    Alert(
        "WazzupAccountOutOfMoney",
        Severity.CRITICAL,
        (
            OUT_OF_MONEY,
            f"unless on (namespace, account) {DOWN}",
            f"unless on (namespace, account) {PAUSED}",
        ),
        CHANNEL_PENDING,
        f"Most channels of the Wazzup account {ACCOUNT} are not paid for",
        "{{ $value | humanizePercentage }} of the active channels of the account "
        f"{ACCOUNT} are not paid for and carry no messages. Of each of them:"
        f" {sentence(State.NOT_PAID_FOR)}",
        UNPAID_STATES,
    ),
    Alert(
        "WazzupAccountMissing",
        Severity.WARNING,
        (
            f"{_DECLARED} > 0",
            "unless on (namespace, account) wazzup_account_unmanaged_channels",
        ),
        ACCOUNT_MISSING_PENDING,
        f"Channels refer to the WazzupAccount {ACCOUNT}, which does not exist",
        "{{ $value }} active channels refer to the WazzupAccount "
        f"{ACCOUNT}, which does not exist. Nobody looks at them: they are Unknown until it does.",
    ),
    Alert(
        "WazzupSyncStale",
        Severity.WARNING,
        (
            "time() - max by (namespace, account) (wazzup_account_last_sync_timestamp_seconds)"
            f" > {SYNC_AGE.total_seconds():.0f}",
            # One that is down has an alert of its own, and one that is paused is not listed.
            "and on (namespace, account) max by (namespace, account) (wazzup_account_up) == 1",
        ),
        SYNC_PENDING,
        f"The Wazzup account {ACCOUNT} has not been listed for long",
        f"The account {ACCOUNT} counts as up, and was listed {{{{ $value | humanizeDuration }}}}"
        " ago. What is shown of its channels is as old as that.",
    ),
)
