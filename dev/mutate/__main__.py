"""`python -m dev.mutate`: exits with 1 if a mutant survives that survivors.txt does not list."""

import os
import random
import sys
import time
from pathlib import Path

from dev.mutate import workspace

LISTED = Path(__file__).with_name("survivors.txt")


def main() -> None:
    """Test a sample of all mutants and report the survivors that are not listed."""
    started = time.monotonic()
    print(f"Generating mutants; mutmut writes to {workspace.LOG}", flush=True)
    workspace.prepare()
    names, seed = workspace.mutants(), os.environ["SEED"]
    chosen = random.Random(seed).sample(names, int(os.environ["MUTANTS"] or len(names)))
    print(f"Testing {len(chosen)} of {len(names)} mutants (SEED={seed})", flush=True)
    left = {name: workspace.change(name) for name in workspace.survivors(chosen)}
    lines = LISTED.read_text().splitlines()
    new = {name: change for name, change in left.items() if change not in lines}
    for name, change in new.items():
        print(f"\n{name}\n{change}")
    print(
        f"\n{len(chosen) - len(left)} killed, {len(left) - len(new)} listed in {LISTED.name},"
        f" {len(new)} new, in {(time.monotonic() - started) / 60:.0f} minutes"
    )
    sys.exit(bool(new))


if __name__ == "__main__":
    main()
