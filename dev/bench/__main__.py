"""Runs all benchmarks and writes their page; BENCH=quick only tries them out."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from dev.bench import page, suites
from dev.bench.cluster import Cluster
from dev.bench.peers import FLOOR
from dev.bench.report import FULL, QUICK, Report
from dev.bench.reviews import reviews
from dev.controlplane.build import Progress, build
from dev.controlplane.plane import ControlPlane
from dev.processes.process import StartError
from wazzup_operator.kube.errors import KubeError

_ROOT = Path(__file__).parents[2]
_SUITES: list[Callable[[Cluster, Report], None]] = [
    suites.steady,
    suites.freshness,
    suites.loop_blocks,
    suites.growth,
    suites.bursts,
    reviews,
]


def main() -> None:
    """Run the suites named on the command line, or all."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("stopped"))
    quick = os.environ.get("BENCH") == "quick"
    report = Report(QUICK if quick else FULL)
    chosen = [suite for suite in _SUITES if suite.__name__ in (sys.argv[1:] or suite.__name__)]
    complete = not quick and len(chosen) == len(_SUITES)
    target = _ROOT / ("docs" if complete else "build") / "benchmarks.md"
    try:
        build(FLOOR, Progress())
        with (
            tempfile.TemporaryDirectory() as directory,
            ControlPlane(Path(directory) / "plane", audit=False) as plane,
        ):
            os.environ["KUBECONFIG"] = str(plane.kubeconfig)
            cluster = Cluster(plane, Path(directory))
            for suite in chosen:
                try:
                    suite(cluster, report)
                except (StartError, KubeError, TimeoutError) as error:
                    why = str(error) or type(error).__name__
                    report.gave_up.append(f"{suite.__name__}: {why}.")
                    report.say(report.gave_up[-1])
                page.write(report, target)
    except StartError as error:
        sys.exit(f"bench: {error}")
    report.say(f"wrote {target.relative_to(_ROOT)}")
    if report.gave_up:
        sys.exit("bench: not everything was measured, see the page")


if __name__ == "__main__":
    main()
