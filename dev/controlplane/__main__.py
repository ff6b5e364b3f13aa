"""`python -m dev.controlplane build NAME...` builds missing programs and prints all paths."""

import signal
import sys

from dev.controlplane.binaries import TOOLS, program
from dev.processes.process import StartError


def main(arguments: list[str]) -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(1))
    match arguments:
        case ["build", *names] if names and TOOLS.keys() >= set(names):
            try:
                for name in names:
                    print(program(name))
            except (StartError, OSError) as error:
                sys.exit(f"controlplane: {error}")
        case _:
            sys.exit(f"{__doc__}\nNAME is any of {', '.join(TOOLS)}.")


if __name__ == "__main__":
    main(sys.argv[1:])
