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
    ours = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        # Stopping takes a few seconds at most; a second signal must not interrupt that.
        for each in ours:
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped

    for each in ours:
        signal.signal(each, stop)
    parent = os.getppid()
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    yield


def _follow(parent: int) -> None:
    # Not the kernel's parent-death signal: it comes when the thread that started us ends.
    while os.getppid() == parent:
        time.sleep(_POLL)
    os.kill(os.getpid(), signal.SIGTERM)


def _tool(name: str) -> str:
    if name not in TOOLS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(TOOLS)}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dev.controlplane",
        description=(
            "A real etcd and kube-apiserver on 127.0.0.1. They come from the folder in the "
            "environment variable KUBEBUILDER_ASSETS where that is set, else from the store of "
            "setup-envtest where that has a recent set; otherwise they are built from source, "
            "once, which takes some minutes, into $XDG_CACHE_HOME/wazzup-operator "
            "(~/.cache/wazzup-operator)."
        ),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser(
        "up",
        help="run a control plane until Ctrl-C",
        description=(
            "Runs a control plane in the foreground: prints 'ready' on standard output once it "
            "serves, and stops it on SIGINT, on SIGTERM and when the process that started this "
            "one ends. Several run side by side, each with a directory of its own."
        ),
    )
    up.add_argument(
        "--dir",
        type=Path,
        required=True,
        metavar="D",
        help="for D/kubeconfig, the logs and the objects, which are there again the next time",
    )
    build = commands.add_parser(
        "build",
        help="build programs that are not built yet; print their paths",
        description="Builds programs that are not built yet; prints their paths.",
    )
    build.add_argument(
        "programs",
        nargs="*",
        type=_tool,
        default=[*TOOLS],
        metavar="PROGRAM",
        help=f"which ones: {', '.join(TOOLS)} (default: all)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
