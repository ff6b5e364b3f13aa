"""docs/admission.md: the rules of admission, from the table that the webhook applies."""

from dev.generate.document import table
from wazzup_operator.admission.rules import ACCOUNT_RULES, CHANNEL_RULES, ValidationAction

_OUTCOMES = {ValidationAction.DENY: "refused", ValidationAction.WARN: "warned of"}


def sections() -> dict[str, str]:
    """Return a table for each kind."""
    return {
        "rules": "\n\n".join(
            table(
                (f"{kind}: what", "is", "rule"),
                [(each.summary, _OUTCOMES[each.action], f"`{each.id}`") for each in rules],
            )
            for kind, rules in (("WazzupChannel", CHANNEL_RULES), ("WazzupAccount", ACCOUNT_RULES))
        )
    }
