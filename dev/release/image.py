"""The image for several architectures, in one OCI archive, built with buildah."""

import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from dev.release.archive import normalize
from dev.release.versions import ReleaseError

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def build_image(
    source: Path,
    architectures: Sequence[str],
    base: str | None,
    arguments: Mapping[str, str],
    archive: Path,
) -> str:
    """Write the archive; return the digest that the image will have in a registry."""
    name = f"localhost/wazzup-operator-{uuid.uuid4().hex}"
    flags = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    flags += [f"--manifest={name}", *base_flags(base)]
    images = []
    try:
        for architecture in architectures:
            print(f"Building the image for {architecture}", flush=True)
            images.append(_build(source, architecture, flags))
        _buildah("manifest", "push", "--all", "--quiet", name, f"oci-archive:{archive}")
    finally:
        _buildah("manifest", "rm", name, check=False)
        _buildah("rmi", "--force", *images, check=False)
    normalize(archive)
    return _digest(archive)


def _build(source: Path, architecture: str, flags: Sequence[str]) -> str:
    """Build the image for one architecture; return its id."""
    machine = platform.machine()
    # The machine may trust a proxy's certificate.
    volume = f"--volume={_CERTIFICATES.resolve()}:{_CERTIFICATES}:ro"
    try:
        output = _buildah(
            *("build", "--quiet", f"--platform=linux/{architecture}", *flags),
            # buildah 1.28 does not set it.
            f"--build-arg=BUILDPLATFORM=linux/{_MACHINES.get(machine, machine)}",
            f"--timestamp={os.environ['SOURCE_DATE_EPOCH']}",
            # A chroot works on every machine; it has the network of buildah itself.
            *("--isolation=chroot", "--network=host"),
            *([volume] if _CERTIFICATES.exists() else []),
            source,
        )
    except ReleaseError:
        raise ReleaseError(
            f"Building the image for {architecture} failed, for the reason above."
        ) from None
    return output.split()[-1]


def base_flags(base: str | None) -> list[str]:
    """Return the flags for a base; labels hold its name and digest, for a rebuild."""
    if not base:
        return []
    name, _, digest = base.partition("@")
    if not digest:
        return [f"--build-arg=BASE={base}"]
    # The digest is enough, and some tools refuse a tag beside it.
    untagged = re.sub(":[^:/]*$", "", name)
    label = "--label=org.opencontainers.image.base"
    return [
        f"--build-arg=BASE={untagged}@{digest}",
        *(f"{label}.name={name}", f"{label}.digest={digest}"),
    ]


def _digest(archive: Path) -> str:
    with tarfile.open(archive) as files:
        index = files.extractfile("index.json")
        assert index, "index.json is a file"
        (manifest,) = json.load(index)["manifests"]
    return str(manifest["digest"])


def _buildah(*words: str | Path, check: bool = True) -> str:
    done = subprocess.run(["buildah", *words], capture_output=True, text=True)
    if check and done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise ReleaseError(f"buildah {words[0]} failed, for the reason above.")
    return done.stdout
