import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev.demo.__main__ import NEXT
from tests.docs.pages import blocks

ROOT = Path(__file__).parents[2]
API_KEY = "put-your-api-key-here"
NUMBERS = "120255501"
"""Common beginning of the examples' numbers."""

STEPS = [
    "deployment.apps/wazzup-operator-controller serverside-applied",
    "This cluster has no kubelet",
    "kubeconfig-wazzup-operator-system-wazzup-operator-controller wazzup-operator controller",
    "wazzupchannel.wazzup.dev/support created",
    r"newsletter +\+12025550104 +true +Active +True +Active +default",
    r"old-hotline +\+12025550103 +false +Off +True +Off +default",
    r"support +\+12025550102 +true +NotAdded +False +console +NotAdded +default +Add the number",
    r'"name":"Marketing"',
    "A person adds the number",
    r"State: +ScanQRCode",
    "scans the QR code",
    r"support +\S+ +true +Active +True ",
    r"support +\S+ +true +NoConnectionWithPhone +False +phone .*battery",
    "The balance runs out",
    r"delivery +\S+ +true +NotPaidFor +False +billing ",
    r'"summary":"Pay for the channel',
    r'\[{"declared":"Support","field":"displayName","observed":"Help desk"}\]',
    r"support +\S+ +true +Active +True ",
    r"drift: \[\]",
    r"support +\S+ +false +Active +False +console +StillActive .*Turn the channel off in Wazzup",
    r"support +\S+ +false +Off +True +Off ",
    r'spec.phoneNumber: Forbidden: cannot be changed from "\+12025550102"',
    r'denied the request: \+\d+ is already declared by the WazzupChannel "support" in',
    r"Warning: The operator cannot switch channels on or off\. Enable this one in Wazzup\.",
    "Files: 1 new, 1 changed, 1 unchanged",
    "6 objects in 3 files: 0 errors, 0 warnings",
    r"marketing +\+12025550106 +true +Active +True ",
    r"Warning +NotPaidFor +WazzupChannel/support",
    r'wazzup_channels{namespace="default",account="default",state="Off",active="false"} 1',
    "Ctrl-C stops it",
]


VARYING = {
    r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b": "ID",
    r"\b\d{4}-\d\d-\d\dT[\d:]+Z": "TIME",
    r"(?<= )(\d+[ms])+$": "AGE",
    r" +": " ",
}
"""What differs between two runs."""


def normalised(text: str) -> str:
    for pattern, replacement in VARYING.items():
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def readme_excerpts() -> Iterator[tuple[str, list[str]]]:
    """Yield each command of the README's terminal output, and what it prints between `...`."""
    (block,) = blocks(ROOT / "README.md", "console")
    for part in block.removeprefix("$ ").split("\n$ "):
        command, _, output = part.partition("\n")
        yield command, [each.strip("\n") for each in re.split(r"^\.\.\.$", output, flags=re.M)]


@contextmanager
def demo() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "dev.demo"],
        cwd=ROOT,
        env={**os.environ, "KEEP": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.communicate()


def act_as_the_guide_says(guide: str) -> str:
    """Run the guide's commands for kubectl and Wazzup; return their output."""
    lines = re.findall(r"^  (export .*|kubectl describe .*|wazzup-simulator .*)$", guide, re.M)
    assert len(lines) == 6, guide
    words = ["sh", "-ec", "\n".join(lines)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_to_try_next_exists() -> None:
    tries = re.findall(r"^  (.+?) +#", NEXT, re.M)
    assert "KEEP=1 make demo" in tries
    pages = [each.removeprefix("less ") for each in tries if each.startswith("less ")]
    assert len(pages) == len(tries) - 1
    for page in pages:
        assert (ROOT / page).exists()


@pytest.mark.timeout(180)
def test_the_demo_shows_the_life_of_a_channel() -> None:
    output = ""
    with demo() as process:
        assert process.stdout is not None
        for line in process.stdout:
            output += line
            if line.startswith("Ctrl-C stops it"):
                break
        found = re.search(r"tail -f (\S+)", output)
        assert found, output
        log = Path(found.group(1))
        operator_log = log.read_text()
        acted = act_as_the_guide_says(output)
        process.send_signal(signal.SIGINT)
        output += process.communicate()[0]
    assert process.returncode == 0, output
    assert not log.exists()

    position = 0
    for step in STEPS:
        match = re.compile(step).search(output, position)
        assert match, f"{step} is missing in the rest of the output:\n{output[position:]}"
        position = match.end()
    for command, excerpts in readme_excerpts():
        outputs = [each.partition("\n$ ")[0] for each in output.split(f"$ {command}\n")[1:]]
        runs = [normalised(each) for each in outputs]
        expected = [normalised(each) for each in excerpts]
        assert any(all(each in run for each in expected) for run in runs), f"README: {command}"
    assert "disabled -> active" in acted
    assert "StillActive" in operator_log
    for text in (output, operator_log):
        assert "Traceback" not in text
        assert "The operator may not" not in text, "a permission is missing"
        assert API_KEY not in text
    assert NUMBERS not in operator_log
