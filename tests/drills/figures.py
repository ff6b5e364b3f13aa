"""Figures that the drills measure: printed, and written to build/drills.md at full durations."""

import os
import platform
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "build" / "drills.md"
_ROW = re.compile(r"^\| (.+?) \| (.+) \|$", re.MULTILINE)

current: dict[str, str] = {}
"""Figures of the running drill, by what broke."""

passed: dict[str, str] = {}
"""Figures of this session's drills; empty for a drill that failed."""


def measured(what: str, **values: float) -> None:
    """Record figures: whole numbers are counts, others are seconds."""
    current[what] = ", ".join(
        f"{name.replace('_', ' ')} {_figure(each)}" for name, each in values.items()
    )
    print(f"measured: {what}: {current[what]}")


def trending(what: str, **trends: object) -> None:
    """Record how figures changed over time."""
    current[what] = "; ".join(f"{name} {each}" for name, each in trends.items())
    print(f"measured: {what}: {current[what]}")


def judged(drill: str, statuses: int) -> None:
    """Record how many statuses a drill compared with what Wazzup had shown by then."""
    what = drill.removeprefix("test_").replace("_", " ").replace("[", ": ").rstrip("]")
    current[what] = f"{statuses:,} statuses written, each true when it was written"


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:z.1f} s"


def end(*, success: bool) -> None:
    """Keep the drill's figures if it passed, else drop them."""
    passed.update(current if success else dict.fromkeys(current, ""))
    current.clear()


def write() -> None:
    """Write the page; rows of drills that did not run stay."""
    earlier = PAGE.read_text() if PAGE.exists() else ""
    rows = dict(_ROW.findall(earlier.partition("|---|---|")[2])) | passed
    table = "".join(f"| {what} | {figures} |\n" for what, figures in rows.items() if figures)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(f"On {machine}:\n\n| what broke | measured |\n|---|---|\n{table}")
