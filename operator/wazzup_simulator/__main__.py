"""``python -m wazzup_simulator``."""

from wazzup_simulator.cli import main

main()
