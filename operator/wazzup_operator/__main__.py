"""Lets `python -m wazzup_operator` be the command."""

from wazzup_operator.cli import main

main()
