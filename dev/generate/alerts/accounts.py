"""Alerts on accounts."""

from dev.generate.alerts.alert import ACCOUNT, NAMESPACE, Alert, Record, Severity
from dev.generate.alerts.channels import IS_UP, UP
from wazzup_operator.domain.states import Actor, State

UNPAID = "wazzup:account_unpaid:ratio"

_UNPAID_STATES = "|".join(
    state for state in State if state.traits.action and state.traits.action.by is Actor.BILLING
)
_NAME = "{{ $labels.namespace }}/{{ $labels.account }}"
_SHOWS = "kubectl -n {{ $labels.namespace }} describe wzacc {{ $labels.account }}"

RECORDS = (
    Record(
        UP,
        "1 while the account can be listed, 0 while it cannot; absent while paused.",
        f"max by ({ACCOUNT}) (wazzup_account_up)",
    ),
    Record(
        UNPAID,
        "Share of the account's active channels that are not paid for.",
        # States without objects have no series.
        f'sum by ({ACCOUNT}) (wazzup_channels{{active="true", state=~"{_UNPAID_STATES}"}}\n'
        "or 0 * wazzup_channels)\n"
        f'/ sum by ({ACCOUNT}) (wazzup_channels{{active="true"}})',
    ),
)

ALERTS = (
    Alert(
        "WazzupAccountDown",
        Severity.CRITICAL,
        f"avg_over_time({UP}[5m]) < 0.7",
        "7m",
        f"Wazzup account {_NAME} cannot be listed",
        f"Listings of account {_NAME} have kept failing for about 8 minutes: the API key is wrong,"
        " its Secret is missing, or Wazzup is unreachable. Its channels become Unknown after"
        " --stale-after (10 minutes by default).",
        _SHOWS,
    ),
    Alert(
        "WazzupAccountOutOfMoney",
        Severity.CRITICAL,
        f"last_over_time({UNPAID}[10m]) > 0.5\nand on ({ACCOUNT}) {IS_UP}",
        "15m",
        f"Most channels of Wazzup account {_NAME} are not paid for",
        f"{{{{ $value | humanizePercentage }}}} of the active channels of account {_NAME} are not"
        " paid for and carry no messages. Pay in Wazzup; messages sent in the meantime arrive"
        " after the payment.",
        "kubectl -n {{ $labels.namespace }} get wzch -o wide",
    ),
    Alert(
        "WazzupAccountMissing",
        Severity.WARNING,
        f"max by ({NAMESPACE}) (last_over_time(wazzup_channels_without_account[10m])) > 0",
        "15m",
        "WazzupAccounts in namespace {{ $labels.namespace }} do not exist",
        "{{ $value }} active channels in namespace {{ $labels.namespace }} refer to a WazzupAccount"
        " that does not exist, so their state is unknown. Create the account or correct"
        " spec.accountRef.",
        "kubectl -n {{ $labels.namespace }} get wzacc,wzch -o wide",
    ),
)
