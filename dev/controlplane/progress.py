"""Says on a terminal, or in a CI log, how far a long step is."""

import sys
from typing import TextIO


class Progress:
    """Lines about a running step, on standard error unless another stream is given.

    A heartbeat replaces the one before it on a terminal; elsewhere each is a line of its own.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._open_line = False
        self.interval = 1.0 if self._tty else 15.0
        """Seconds between two heartbeats."""

    def say(self, line: str) -> None:
        """Prints `line` for good."""
        self._write(line, "\n")
        self._open_line = False

    def beat(self, line: str) -> None:
        """Prints `line` as the newest heartbeat."""
        self._write(line, "" if self._tty else "\n")
        self._open_line = self._tty

    def _write(self, line: str, end: str) -> None:
        start = "\r\033[K" if self._open_line else ""
        print(f"{start}{line}", end=end, file=self._stream, flush=True)
