"""docs/admission.md: the admission rules, from the webhook's table."""

from typing import Any

from dev.generate.document import table
from wazzup_operator.admission.rules import (
    ACCOUNT_RULES,
    CHANNEL_RULES,
    LOOKUP_RULES,
    Rule,
    ValidationAction,
)

_OUTCOMES = {ValidationAction.DENY: "refusal", ValidationAction.WARN: "warning"}


def sections() -> dict[str, str]:
    """Return a table of rules for both kinds."""
    channel = [*_rows(*CHANNEL_RULES), *_rows(*LOOKUP_RULES)]
    tables = {"WazzupChannel": channel, "WazzupAccount": _rows(*ACCOUNT_RULES)}
    return {
        "rules": "\n\n".join(
            # Refusals first; the rules keep their order otherwise.
            table(
                (f"what happens to a {kind}", "answer", "rule"),
                sorted(rows, key=lambda row: row[1]),
            )
            for kind, rows in tables.items()
        )
    }


def _rows(*rules: Rule[Any]) -> list[tuple[str, str, str]]:
    return [(each.summary, _OUTCOMES[each.action], f"`{each.id}`") for each in rules]
