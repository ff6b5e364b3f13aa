"""Alertmanager's inhibit_rules: alerts that make others unnecessary."""

from collections.abc import Sequence

from dev.generate.alerts.alert import ACCOUNT, JOB, OBJECT
from wazzup_operator.domain.states import Actor


def _rule(source: Sequence[str], targets: Sequence[str], equal: str) -> dict[str, list[str]]:
    """Return an entry of Alertmanager's inhibit_rules."""
    return {
        "source_matchers": list(source),
        "target_matchers": list(targets),
        "equal": equal.split(", "),
    }


NEEDS_ACTION = 'alertname="WazzupChannelNeedsAction"'
LOOKUPS_FAIL = ['alertname="WazzupWebhookLookupsFailing"', 'resource="wazzupchannels"']
NOT_REACHED = 'alertname="WazzupWebhookNotReached"'

INHIBITIONS = [
    _rule(['alertname="WazzupAccountDown"'], ['alertname=~"WazzupChannel.*"'], ACCOUNT),
    _rule(
        ['alertname="WazzupAccountOutOfMoney"'], [NEEDS_ACTION, f'by="{Actor.BILLING}"'], ACCOUNT
    ),
    _rule([NEEDS_ACTION], ['alertname="WazzupChannelFlapping"'], OBJECT),
    _rule(LOOKUPS_FAIL, ['alertname="WazzupWebhookFailing"', 'webhook="channel"'], JOB),
    _rule(LOOKUPS_FAIL, [NOT_REACHED, 'name="channel.wazzup.dev"'], "cluster"),
    _rule(['alertname="WazzupWebhookAbsent"'], [NOT_REACHED], "cluster"),
    *(
        _rule(
            ['alertname="WazzupWebhookFailing"', f'webhook="{kind}"'],
            [NOT_REACHED, f'name="{kind}.wazzup.dev"'],
            "cluster",
        )
        for kind in ("channel", "account")
    ),
]
