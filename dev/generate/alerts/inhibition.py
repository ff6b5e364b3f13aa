"""Which alert makes which others unnecessary, for Alertmanager."""

from dataclasses import dataclass

from dev.generate.alerts.channels import ALERTS as CHANNELS


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While `source` fires, `targets` that are equal in these labels are not sent."""

    source: str
    targets: tuple[str, ...]
    equal: tuple[str, ...]

    def rule(self) -> dict[str, list[str]]:
        """Return it as an entry of Alertmanager's inhibit_rules."""
        named = "|".join(self.targets)
        target = f'alertname="{named}"' if len(self.targets) == 1 else f'alertname=~"{named}"'
        return {
            "source_matchers": [f'alertname="{self.source}"'],
            "target_matchers": [target],
            "equal": list(self.equal),
        }


_CHANNELS = tuple(alert.name for alert in CHANNELS)
_ACCOUNT = ("namespace", "account")

INHIBITIONS = (
    Inhibition("WazzupAccountDown", (*_CHANNELS, "WazzupAccountOutOfMoney"), _ACCOUNT),
    Inhibition("WazzupAccountOutOfMoney", ("WazzupChannelNotPaidFor",), _ACCOUNT),
)
"""The same is in the expressions; here it holds from the first second on, and for what is sent."""
