"""Tar archives with the same bytes for the same contents."""

import gzip
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def normalize(archive: Path) -> None:
    """Rewrite a tar archive in the order of the names, with the times of SOURCE_DATE_EPOCH."""
    time = int(os.environ["SOURCE_DATE_EPOCH"])
    new = archive.with_name(f".{archive.name}")
    with (
        tarfile.open(archive) as old,
        _compressed(new, time) as output,
        tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as rewritten,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime = time
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            rewritten.addfile(member, old.extractfile(member) if member.isfile() else None)
    new.rename(archive)


@contextmanager
def _compressed(file: Path, time: int) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with file.open("wb") as output:
        if not file.name.endswith(".gz"):
            yield output
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=output, mtime=time) as compressed:
            yield compressed
