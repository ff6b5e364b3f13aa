"""Containers of the image, started with unshare, chroot and setpriv.

As under the Pod Security profile "restricted": the image's user and environment, no capabilities,
no new privileges, process id 1 and a read-only root filesystem. The network is the machine's.
"""

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from dev.processes.process import Process
from tests.integration.harness.api import JSON, eventually

ROOT = Path(__file__).parents[2]
REGISTRY = "registry.example.com/team"
EMPTY = "riscv64"
"""An architecture whose base has no files."""

_MOUNT = """
set -e
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount --bind "$RUN" "$ROOT/run"
mount -o remount,bind,ro "$ROOT/run"
if [ -e "$RUN/hosts" ]; then mount --bind "$RUN/hosts" "$ROOT/etc/hosts"; fi
if [ "$TMP" ]; then mount -t tmpfs tmpfs "$ROOT/tmp"; fi
mount -o remount,bind,ro "$ROOT"
unset ROOT RUN TMP
"""


class Image:
    """A built image: its configuration, and its files in a directory."""

    def __init__(self, root: Path, config: JSON) -> None:
        self.root, self.config = root, config

    @property
    def environment(self) -> dict[str, str]:
        return dict(each.split("=", 1) for each in self.config["Env"])

    def files(self, under: str = ".") -> Iterator[Path]:
        """Yield all files except mount points of the runtime."""
        for folder, folders, names in os.walk(self.root / under):
            if Path(folder) == self.root:
                folders[:] = [each for each in folders if each not in {"proc", "sys", "dev"}]
            links = [each for each in folders if (Path(folder) / each).is_symlink()]
            yield from (Path(folder) / name for name in (*names, *links))

    def tree(self) -> dict[str, str]:
        """Return mode and digest of each file, by name."""
        found = {}
        for path in self.files():
            mode = path.lstat().st_mode
            content = os.readlink(path).encode() if stat.S_ISLNK(mode) else path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            found[str(path.relative_to(self.root))] = f"{mode:o} {digest}"
        return found

    def weigh(self, under: str) -> int:
        """Return the total size of a folder in bytes."""
        return sum(path.lstat().st_size for path in self.files(under))

    def site_packages(self) -> Path:
        (found,) = self.root.glob("opt/wazzup-operator/lib/python3*/site-packages")
        return found


class Container(Process):
    """One process of the image, in its own pid namespace.

    Its /run is the directory `run`, its /etc/hosts the file `hosts` in it, if any. With `tmp`, its
    /tmp is writable.
    """

    def __init__(
        self,
        image: Image,
        run: Path,
        *arguments: str,
        entrypoint: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        tmp: bool = False,
    ) -> None:
        run.mkdir(exist_ok=True)
        run.chmod(0o755)
        user = image.config["User"]
        command = [*(entrypoint or image.config["Entrypoint"]), *arguments]
        unshare, chroot = (shutil.which(each) for each in ("unshare", "chroot"))
        enter = f'exec setpriv --no-new-privs {chroot} --userspec={user} --groups= "$0" "$@"'
        self._command = [
            *(str(unshare), "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", _MOUNT + enter, str(image.root), *command),
        ]
        self._environment = {
            **image.environment,
            **(environment or {}),
            "ROOT": str(image.root),
            "RUN": str(run),
            "TMP": "1" if tmp else "",
        }
        super().__init__(run.name, run.with_name(f"{run.name}.log"))

    def output(self) -> str:
        """Run it until it exits with 0; return its output."""
        done = subprocess.run(
            self._command, env=self._environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> "Container":
        self.launch(self._command, self._environment)
        return self

    def wait_for(self, word: str, seconds: float = 30) -> str:
        """Wait for a line with this word in its log; return the line."""

        def look() -> str | None:
            lines = [line for line in self.log().splitlines() if word in line]
            assert lines or self.runs, self.log()
            return lines[0] if lines else None

        return eventually(look, f"{word!r} in {self.log_file}", seconds)

    def end(self, within: float = 10) -> int:
        """Send SIGTERM to process 1 of the container; return its exit code."""
        (inner,) = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        os.kill(int(inner), signal.SIGTERM)
        return self.wait(within)


Start = Callable[..., Container]


def unpack(archive: Path, architecture: str, directory: Path) -> Image:
    """Unpack an image of an OCI archive, which has one layer, as root."""
    with tarfile.open(archive) as files:

        def read(name: str) -> IO[bytes]:
            file = files.extractfile(name)
            assert file
            return file

        def blob(described: JSON) -> IO[bytes]:
            return read("blobs/" + described["digest"].replace(":", "/"))

        (index,) = json.load(read("index.json"))["manifests"]
        (manifest,) = [
            json.load(blob(each))
            for each in json.load(blob(index))["manifests"]
            if each["platform"] == {"os": "linux", "architecture": architecture}
        ]
        (layer,) = manifest["layers"]
        directory.mkdir()
        command = ["tar", "--extract", "--gzip", "--same-permissions", f"--directory={directory}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as tar:
            assert tar.stdin
            shutil.copyfileobj(blob(layer), tar.stdin)
        assert tar.returncode == 0
        return Image(directory, json.load(blob(manifest["config"]))["config"])
