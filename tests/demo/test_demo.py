import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
API_KEY = "put-your-api-key-here"
NUMBERS = "447700900"
"""What all numbers of the examples begin with."""

STATIONS = [
    "deployment.apps/wazzup-operator-controller serverside-applied",
    "This cluster has no kubelet",
    "kubeconfig-wazzup-operator-system-wazzup-operator-controller wazzup-operator controller",
    "wazzupchannel.wazzup.dev/support created",
    r"newsletter +\+447700900104 +true +Active +True +Active +default",
    r"old-hotline +\+447700900103 +false +Off +True +Off +default",
    r"support +\+447700900102 +true +NotAdded +False +console +NotAdded +default +Add the number",
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
    r'spec.phoneNumber: Forbidden: cannot be changed from "\+447700900102"',
    r'denied the request: \+\d+ is already declared by the WazzupChannel "support" in',
    r"Warning: The operator cannot switch channels on or off\. Enable this one in Wazzup\.",
    r"Warning +NotPaidFor +WazzupChannel/support",
    r'wazzup_channels{account="default",active="false",namespace="default",state="Off"} 1.0',
    "Ctrl-C stops it",
]


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


def act_as_the_guide_says(told: str) -> str:
    """Run the guide's command that switches the channel on; return what it prints."""
    setting, command = re.findall(r"^  (export WAZZUP.*|wazzup-simulator act tick .*)$", told, re.M)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["sh", "-c", f"{setting}\n{command}"]
    done = subprocess.run(words, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_the_demo_tells_the_life_of_a_channel() -> None:
    told = ""
    with demo() as process:
        assert process.stdout is not None
        for line in process.stdout:
            told += line
            if line.startswith("Ctrl-C stops it"):
                break
        found = re.search(r"tail -f (\S+)", told)
        assert found, told
        log = Path(found.group(1))
        operator_log = log.read_text()
        acted = act_as_the_guide_says(told)
        process.send_signal(signal.SIGINT)
        told += process.communicate()[0]
    assert process.returncode == 0, told
    assert not log.exists()

    position = 0
    for station in STATIONS:
        match = re.compile(station).search(told, position)
        assert match, f"{station} is missing in the rest of the story:\n{told[position:]}"
        position = match.end()
    assert "disabled -> active" in acted
    assert "StillActive" in operator_log
    for text in (told, operator_log):
        assert "Traceback" not in text
        assert "The operator may not" not in text, "the manifest's rights are enough"
        assert API_KEY not in text
    assert NUMBERS not in operator_log
