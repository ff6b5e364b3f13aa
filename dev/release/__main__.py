"""The command line of releases; `check` needs only Python.

python3 -m dev.release check v0.2.0    # compares the versions, prints the release notes
python3 -m dev.release build --help    # writes the files of a release; see `make release`
"""

import argparse
import sys
from pathlib import Path

from dev.processes.process import StartError
from dev.release.build import build
from dev.release.versions import ReleaseError, check


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="release")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check").add_argument("tag")
    building = commands.add_parser("build")
    building.add_argument("--arch", default="amd64 arm64", help="architectures of the image")
    building.add_argument("--base", help="base image, by default the Dockerfile's")
    building.add_argument("--registry", help="where the image will be pushed")
    building.add_argument("--into", type=Path, default=Path("dist"), help="a new folder")
    given = parser.parse_args()
    try:
        if given.command == "check":
            print(check(Path(), given.tag), end="")
        else:
            build(Path(), given.into, given.arch.split(), given.base, given.registry)
    except (ReleaseError, StartError) as error:
        sys.exit(f"release: {error}")


if __name__ == "__main__":
    main()
