"""`python -m dev.mutate`: exits with 1 if survivors and survivors.txt differ.

The variable MUTANTS restricts it to a sample, which SEED chooses.
"""

import os
import random
import sys
import time
from pathlib import Path

from dev.mutate import workspace

LISTED = Path(__file__).with_name("survivors.txt")


def main() -> None:
    """Test all mutants or a sample; report new survivors and stale lines."""
    started = time.monotonic()
    print(f"Generating mutants; mutmut writes to {workspace.LOG}", flush=True)
    workspace.prepare()
    names = workspace.mutants()
    chosen = _choose(names)
    left = {name: workspace.change(name) for name in workspace.survivors(chosen)}
    lines = [line for line in LISTED.read_text().splitlines() if line and line[0] != "#"]
    new = {name: change for name, change in left.items() if change not in lines}
    for name, change in new.items():
        print(f"\n{name}\n{change}")
    # In a sample, most lines match nothing.
    stale = sorted({*lines} - {*left.values()}) if len(chosen) == len(names) else []
    for line in stale:
        print(f"\nNo survivor matches this line of {LISTED.name}: remove it.\n{line}")
    print(
        f"\n{len(chosen) - len(left)} killed, {len(left) - len(new)} listed in {LISTED.name},"
        f" {len(new)} new, in {(time.monotonic() - started) / 60:.0f} minutes"
    )
    sys.exit(bool(new or stale))


def _choose(names: list[str]) -> list[str]:
    seed = os.environ.get("SEED", "1")
    size = min(int(os.environ.get("MUTANTS") or len(names)), len(names))
    print(f"Testing {size} of {len(names)} mutants (SEED={seed})", flush=True)
    return random.Random(seed).sample(names, size)


if __name__ == "__main__":
    main()
