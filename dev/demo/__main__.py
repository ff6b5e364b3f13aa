"""The command line of the demo."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from dev.controlplane.binaries import ensure
from dev.demo.stage import DemoError, Stage
from dev.demo.steps import play
from dev.demo.story import PHONE, story
from dev.processes.operator import BIN
from dev.processes.process import StartError

NEXT = """
What to try next:

  KEEP=1 make demo                     # keep everything running, and act in Wazzup yourself
  less examples/simulator/README.md    # the operator and the simulated Wazzup in a kind cluster
  less docs/install.md                 # the operator in your cluster, with your Wazzup account"""

_POLL = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Stopped(BaseException):
    """SIGINT or SIGTERM was received."""


def main() -> int:
    """Run the demo; return the exit code."""
    for number in _SIGNALS:
        signal.signal(number, _stop)
    try:
        with tempfile.TemporaryDirectory(prefix="wazzup-demo-") as directory:
            return _run(Path(directory))
    except _Stopped:
        print("demo: stopped.", file=sys.stderr)
        return 130
    except (StartError, DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def _run(directory: Path) -> int:
    ensure()  # builds what is missing, which does not count
    started = time.monotonic()
    with Stage(directory) as stage:
        try:
            stage.start_wazzup()
            play(stage, story(stage))
            seconds = time.monotonic() - started
            print(f"That took {seconds:.0f} s from the start of etcd.", flush=True)
            if os.environ.get("KEEP", "0") in {"", "0"}:
                print(NEXT)
            else:
                _keep(stage)
        except DemoError as error:
            raise DemoError(f"{error}\n{stage.log_tails()}") from error
    return 0


def _keep(stage: Stage) -> None:
    try:
        print(_guide(stage), flush=True)
        while (failure := stage.failure()) is None:
            time.sleep(_POLL)
    except _Stopped:
        return
    raise DemoError(failure)


def _guide(stage: Stage) -> str:
    return f"""
Everything keeps running. Look around in another terminal:

  export PATH={BIN}:$PATH KUBECONFIG={stage.plane.kubeconfig}
  kubectl get wzch -o wide --watch
  kubectl describe wzch support
  curl -sS http://{stage.metrics}/metrics
  tail -f {stage.log("controller")}

Play the person, the phone or the service in Wazzup:

  export WAZZUP_SIMULATOR_URL={stage.wazzup.base_url}
  wazzup-simulator act tick +{PHONE}    # or untick, logout, scan, lose-phone, find-phone
  wazzup-simulator act run-out-of-money      # or pay
  wazzup-simulator act --help

Ctrl-C stops it."""


def _stop(number: int, frame: FrameType | None) -> None:
    # Stopping takes a few seconds at most; a second signal must not interrupt it.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise _Stopped


if __name__ == "__main__":
    sys.exit(main())
