"""Alertmanager's inhibit_rules: alerts that make others unnecessary."""

from collections.abc import Sequence

from dev.generate.alerts.alert import ACCOUNT, OBJECT
from wazzup_operator.domain.states import Actor


def _rule(source: str, targets: Sequence[str], equal: str) -> dict[str, list[str]]:
    """Return an entry of Alertmanager's inhibit_rules."""
    return {
        "source_matchers": [f'alertname="{source}"'],
        "target_matchers": list(targets),
        "equal": equal.split(", "),
    }


NEEDS_ACTION = 'alertname="WazzupChannelNeedsAction"'

INHIBITIONS = [
    _rule("WazzupAccountDown", ['alertname=~"WazzupChannel.*"'], ACCOUNT),
    _rule("WazzupAccountOutOfMoney", [NEEDS_ACTION, f'by="{Actor.BILLING}"'], ACCOUNT),
    _rule("WazzupChannelNeedsAction", ['alertname="WazzupChannelFlapping"'], OBJECT),
]
