"""The command line of the control plane."""

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from dev.controlplane.binaries import TOOLS, program
from dev.controlplane.plane import ControlPlane
from dev.processes.process import StartError

_POLL = 0.2


class _Stopped(BaseException):
    """SIGINT or SIGTERM was received."""


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args()
    try:
        with _stopped_by_signals():
            if arguments.command == "build":
                for name in arguments.programs:
                    print(program(name))
            else:
                _up(arguments.dir)
    except _Stopped:
        return 0 if arguments.command == "up" else 1
    except (StartError, OSError) as error:
        print(f"controlplane: {error}", file=sys.stderr)
        return 1
    return 0


def _up(directory: Path) -> None:
    with ControlPlane(directory) as plane:
        print(f"try: kubectl --kubeconfig {plane.kubeconfig} get namespaces", file=sys.stderr)
        print("ready", flush=True)
        while (failure := plane.failure()) is None:
            time.sleep(_POLL)
        raise StartError(failure)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM, or the death of the parent, into _Stopped."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        # Stopping takes a few seconds at most; a second signal must not interrupt it.
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped

    for each in signals:
        signal.signal(each, stop)
    parent = os.getppid()
    threading.Thread(target=_stop_with, args=(parent,), daemon=True).start()
    yield


def _stop_with(parent: int) -> None:
    # The kernel's parent-death signal would come when the thread that started this process ends.
    while os.getppid() == parent:
        time.sleep(_POLL)
    os.kill(os.getpid(), signal.SIGTERM)


def _tool(name: str) -> str:
    if name not in TOOLS:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(TOOLS)}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dev.controlplane",
        description=(
            "A real etcd and kube-apiserver on 127.0.0.1. They come from the folder in the "
            "environment variable KUBEBUILDER_ASSETS if it is set, else from the store of "
            "setup-envtest if it has a recent version. Otherwise they are built from source once, "
            "which takes some minutes, into $XDG_CACHE_HOME/wazzup-operator "
            "(~/.cache/wazzup-operator)."
        ),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser(
        "up",
        help="run a control plane until Ctrl-C",
        description=(
            "Runs a control plane in the foreground. Prints 'ready' on standard output once it "
            "serves. Stops it on SIGINT, on SIGTERM and when the parent process dies. Several can "
            "run side by side, each in its own directory."
        ),
    )
    up.add_argument(
        "--dir",
        type=Path,
        required=True,
        metavar="D",
        help="directory for D/kubeconfig, the logs and the objects, which survive a restart",
    )
    build = commands.add_parser(
        "build",
        help="build missing programs; print their paths",
        description="Builds the programs that are not built yet and prints all paths.",
    )
    build.add_argument(
        "programs",
        nargs="*",
        type=_tool,
        default=[*TOOLS],
        metavar="PROGRAM",
        help=f"any of {', '.join(TOOLS)} (default: all)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
