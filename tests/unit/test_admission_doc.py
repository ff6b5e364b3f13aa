"""docs/admission.md lists the rules as they are. Run as a module, this writes them there."""

import re
from pathlib import Path

from wazzup_operator.admission.rules import ACCOUNT_RULES, CHANNEL_RULES

DOC = Path(__file__).parents[2] / "docs" / "admission.md"
BETWEEN = re.compile(r"(?<=-->\n).*(?=<!-- rules: until here generated -->)", re.DOTALL)
VERDICTS = {"deny": "refused", "warn": "warned of"}


def rules():
    """Return the tables, one for each kind."""
    parts = []
    for kind, table in (("WazzupChannel", CHANNEL_RULES), ("WazzupAccount", ACCOUNT_RULES)):
        rows = [f"| {kind}: what | is | rule |", "|---|---|---|"]
        rows += [f"| {each.summary} | {VERDICTS[each.verdict]} | `{each.id}` |" for each in table]
        parts.append("\n".join(rows) + "\n")
    return "\n" + "\n".join(parts) + "\n"


def refreshed():
    """Return the document with the rules as they are now."""
    text = DOC.read_text()
    assert len(BETWEEN.findall(text)) == 1
    return BETWEEN.sub(lambda _: rules(), text)


def test_the_rules_in_the_document_are_those_of_the_table():
    assert DOC.read_text() == refreshed(), "run python -m tests.unit.test_admission_doc"


if __name__ == "__main__":
    DOC.write_text(refreshed())
