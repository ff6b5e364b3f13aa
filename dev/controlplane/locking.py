"""Locks between processes; the system drops them when their holder ends, however it ends."""

import fcntl
from typing import IO


def lock_now(file: IO[str]) -> bool:
    """Locks the open `file` until it is closed; False when another process has it locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
