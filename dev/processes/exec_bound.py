"""Exec a program that the kernel kills when its parent dies; run by path, not imported.

Arguments: the parent's process id, the program and its arguments. This is a separate program
because code between fork and exec may deadlock if the parent has threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _main() -> None:
    parent, program, *arguments = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # If the parent died before this request, the signal never comes.
    if os.getppid() != int(parent):
        sys.exit(1)
    try:
        os.execv(program, [program, *arguments])  # noqa: S606
    except OSError as error:
        sys.exit(f"{program} cannot be executed: {error}")


_main()
