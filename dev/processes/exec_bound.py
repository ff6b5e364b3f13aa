"""Exec a program that the kernel kills together with its parent; run by path, not imported.

Arguments: the parent's process id, the program and the program's arguments. It is a separate
step since code between fork and exec may deadlock when the parent has threads. Only Linux can do
this; elsewhere it just execs the program.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _main() -> None:
    parent, program, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # If the parent died before the request, the signal never comes.
        if os.getppid() != int(parent):
            sys.exit(1)
    try:
        os.execv(program, [program, *arguments])  # noqa: S606
    except OSError as error:
        sys.exit(f"{program} does not run: {error}")


_main()
