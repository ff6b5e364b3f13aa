"""What the drills find out: printed, and told in docs/reliability.md by a run in full durations."""

import os
import platform
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
_HEAD = "| what broke | measured |\n|---|---|\n"
_ROW = re.compile(r"^\| (.+?) \| (.+) \|$", re.MULTILINE)

found: dict[str, str] = {}
"""What the present drill has measured, in words, by what broke."""

held: dict[str, str] = {}
"""The same of this run's drills; nothing of one that has not passed."""


def measured(what: str, **values: float) -> None:
    """Take down what a drill found out: whole numbers are counts, others are seconds."""
    found[what] = ", ".join(
        f"{name.replace('_', ' ')} {_said(each)}" for name, each in values.items()
    )
    print(f"measured: {what}: {found[what]}")


def judged(drill: str, statuses: int) -> None:
    """Take down how many written statuses a drill has held against what Wazzup had shown."""
    what = drill.removeprefix("test_").replace("_", " ").replace("[", ": ").rstrip("]")
    found[what] = f"{statuses:,} statuses written, each true when it was written"


def _said(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:z.1f} s"


def end(*, passed: bool) -> None:
    """Keep what the drill has measured if it has passed."""
    held.update(found if passed else dict.fromkeys(found, ""))
    found.clear()


def told(page: str) -> str:
    """Return the page with what this run has measured; rows of other drills stay."""
    before, _, rest = page.partition(BEGIN)
    old, _, after = rest.partition(END)
    rows = dict(_ROW.findall(old.partition("|---|---|")[2])) | held
    table = "".join(f"| {what} | {said} |\n" for what, said in rows.items() if said)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{before}{BEGIN}\n\nOn {machine}:\n\n{_HEAD}{table}\n{END}{after}"


def tell() -> None:
    """Write them into the page."""
    PAGE.write_text(told(PAGE.read_text()))
