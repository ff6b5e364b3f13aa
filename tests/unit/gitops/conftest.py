"""Runs the command line in a folder of its own."""

import io
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from wazzup_operator.cli import main


class Done(NamedTuple):
    """The end of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capfd, tmp_path) -> Callable[..., Done]:
    """Return a function that runs a command line in tmp_path, with this standard input."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["wazzup-operator", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as caught:
            main()
        return Done(int(caught.value.code or 0), *capfd.readouterr())

    return run
