"""docs/admission.md: the admission rules, from the webhook's table."""

from dev.generate.document import table
from wazzup_operator.admission.rules import ACCOUNT_RULES, CHANNEL_RULES, ValidationAction

_OUTCOMES = {ValidationAction.DENY: "refusal", ValidationAction.WARN: "warning"}


def sections() -> dict[str, str]:
    """Return a table of rules for both kinds."""
    return {
        "rules": "\n\n".join(
            table(
                (f"what happens to a {kind}", "answer", "rule"),
                [(each.summary, _OUTCOMES[each.action], f"`{each.id}`") for each in rules],
            )
            for kind, rules in (("WazzupChannel", CHANNEL_RULES), ("WazzupAccount", ACCOUNT_RULES))
        )
    }
