"""The steps of the demo, and how they are run and printed."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dev.demo.stage import ROOT, DemoError, Stage
from wazzup_simulator.client import SimulatorError

_TIMEOUT = 60.0
_WIDTH = 92


@dataclass(frozen=True)
class Chapter:
    """A title and an introduction."""

    title: str
    text: str


@dataclass(frozen=True)
class Say:
    """A sentence for the audience."""

    text: str


@dataclass(frozen=True)
class Run:
    """A shell command; with `refused` it is expected to fail."""

    command: str
    refused: bool = False


@dataclass(frozen=True)
class InWazzup:
    """Something that happens outside the cluster: a person, a phone or the service acts."""

    text: str
    do: Callable[[Stage], object]


@dataclass(frozen=True)
class StartOperator:
    """The operator is started."""


@dataclass(frozen=True)
class StartWebhook:
    """The webhook is started."""


Step = Chapter | Say | Run | InWazzup | StartOperator | StartWebhook


def play(stage: Stage, story: Iterable[Step]) -> None:
    """Run the steps in order. Raises DemoError at the first that fails."""
    for step in story:
        match step:
            case Chapter(title, text):
                _print(f"{_bold(f'== {title} ==')}\n{textwrap.fill(text, _WIDTH)}\n")
            case Say(text):
                _print(textwrap.fill(text, _WIDTH))
            case Run():
                _run(stage, step)
            case InWazzup(text, do):
                _print(textwrap.fill(f"[in Wazzup] {text}", _WIDTH, subsequent_indent=" " * 12))
                _act(stage, do)
            case StartOperator():
                _print(_bold(f"$ {stage.start_operator()}") + "\n")
            case StartWebhook():
                _print(_bold(f"$ {stage.start_webhook()}") + "\n")


def _act(stage: Stage, do: Callable[[Stage], object]) -> None:
    try:
        do(stage)
    except (SimulatorError, OSError) as error:
        raise DemoError(f"The simulator failed: {error}") from error


def _run(stage: Stage, step: Run) -> None:
    _print(_bold(f"$ {step.command}"))
    try:
        code = subprocess.run(
            # exec, so that a timeout or a signal kills the command and not only its shell.
            ["/bin/sh", "-c", f"exec {step.command}"],
            env=stage.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT,
        ).returncode
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"This command timed out after {_TIMEOUT:.0f} s.") from error
    if failure := stage.failure():
        raise DemoError(failure)
    if (code != 0) is not step.refused:
        verb = "was accepted" if step.refused else f"failed with exit code {code}"
        raise DemoError(f"This command {verb}: {step.command}")
    _print("")


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


def _print(text: str) -> None:
    print(text, flush=True)
