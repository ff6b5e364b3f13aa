"""The operator's two processes, started as a user starts them."""

import random
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from dev.processes.process import Process

BIN = Path(sys.executable).parent
PATIENCE = 60.0


class Operator(Process):
    """One `wazzup-operator controller` or `wazzup-operator webhook`.

    Like a Pod, it has its own IP address, one of 127.0.0.0/8. Flags that listen on all addresses
    get this address. If a flag is given twice, the last one counts.
    """

    def __init__(
        self,
        subcommand: str,
        log: Path,
        *flags: str,
        env: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:
        super().__init__(subcommand, log)
        self.subcommand = subcommand
        host = pod_address()
        listening = ("--metrics-address=:8080", "--health-address=:8081")
        self.flags = [bound(flag, host) for flag in (*listening, *flags)]
        given = dict(flag.split("=", 1) for flag in self.flags if "=" in flag)
        self.metrics_address = given["--metrics-address"]
        self.health_address = given["--health-address"]
        self._env = env
        self._cwd = cwd

    def start(self) -> None:
        """Start or restart the process."""
        self.launch([BIN / "wazzup-operator", self.subcommand, *self.flags], self._env, self._cwd)

    def wait_ready(self, seconds: float = PATIENCE) -> None:
        """Wait until /readyz answers 200. Raises StartError."""
        ready = f"the {self.name} is not ready"
        self.wait_until(lambda: self.probe("/readyz")[0] == 200, ready, seconds)

    def probe(self, path: str) -> tuple[int, str]:
        """Return status and body of a health endpoint; the status is 0 while nothing listens."""
        return get(f"http://{self.health_address}{path}")

    def metrics(self) -> str:
        """Return the metrics as text; empty while nothing listens."""
        status, text = get(f"http://{self.metrics_address}/metrics")
        assert status in (0, 200), text
        return text

    def count(self, metric: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in self.metrics().splitlines()
            if re.match(rf"{metric}[{{ ]", line)
            and all(f'{key}="{value}"' in line for key, value in labels.items())
        )


def pod_address() -> str:
    """Return a random loopback address for a Pod."""
    return ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])


def bound(flag: str, host: str) -> str:
    """Insert the host into a flag that listens on all addresses."""
    return re.sub(r"^(--[a-z-]*address=):", rf"\g<1>{host}:", flag)


def get(url: str) -> tuple[int, str]:
    """Send a GET; return status and body, or 0 and "" if nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a local URL
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""
