"""Where etcd, kube-apiserver, helm, promtool and kube-score come from."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dev.controlplane.build import Tool, build
from dev.controlplane.errors import ControlPlaneError
from dev.controlplane.progress import Progress

ETCD = Tool("etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3")
# Unstamped, the server calls itself v0.0.0 and every client that asks for its version is misled.
KUBE_APISERVER = Tool(
    "kube-apiserver",
    "k8s.io/kubernetes",
    "k8s.io/kubernetes/cmd/kube-apiserver",
    stamps=tuple(
        f"{package}.{variable}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for variable in ("gitVersion=v{version}", "gitMajor={major}", "gitMinor={minor}")
    ),
)
# Unstamped, helm says v4.3 without the patch.
HELM = Tool(
    "helm",
    "helm.sh/helm/v4",
    "helm.sh/helm/v4/cmd/helm",
    stamps=("helm.sh/helm/v4/internal/version.version=v{version}",),
)
# promtool numbers its releases otherwise than its module, v3.13.0 for v0.313.0: the stamp is the
# module's. The tag leaves out the clients of clouds that only a scraping configuration needs.
PROMTOOL = Tool(
    "promtool",
    "github.com/prometheus/prometheus",
    "github.com/prometheus/prometheus/cmd/promtool",
    stamps=("github.com/prometheus/common/version.Version={version}",),
    tags="remove_all_sd",
)
KUBE_SCORE = Tool(
    "kube-score", "github.com/zegl/kube-score", "github.com/zegl/kube-score/cmd/kube-score"
)
_LEAST_KUBERNETES = (1, 32)


@dataclass(frozen=True)
class Binaries:
    """The two programs of a control plane; the versions are without a v, such as "1.36.3"."""

    etcd: Path
    etcd_version: str
    kube_apiserver: Path
    kube_apiserver_version: str


def ensure(progress: Progress | None = None) -> Binaries:
    """The programs: those in KUBEBUILDER_ASSETS where it is set, else our own, built if need be.

    Raises ControlPlaneError when they cannot be had.
    """
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        return _from_assets(Path(assets))
    progress = progress or Progress()
    return Binaries(
        etcd=build(ETCD, progress),
        etcd_version=ETCD.version,
        kube_apiserver=build(KUBE_APISERVER, progress),
        kube_apiserver_version=KUBE_APISERVER.version,
    )


def helm(progress: Progress | None = None) -> Path:
    """The helm that renders the chart, built if need be. Raises ControlPlaneError."""
    return build(HELM, progress or Progress())


def promtool(progress: Progress | None = None) -> Path:
    """The promtool that tests the alerts, built if need be. Raises ControlPlaneError."""
    return build(PROMTOOL, progress or Progress())


def kube_score(progress: Progress | None = None) -> Path:
    """The kube-score that judges what is rendered, built if need be. Raises ControlPlaneError."""
    return build(KUBE_SCORE, progress or Progress())


def _from_assets(assets: Path) -> Binaries:
    etcd, kube_apiserver = assets / "etcd", assets / "kube-apiserver"
    missing = [program.name for program in (etcd, kube_apiserver) if not program.is_file()]
    if missing:
        raise ControlPlaneError(
            f"KUBEBUILDER_ASSETS is {assets}, which has no {' and no '.join(missing)}: set it to a "
            "folder that has etcd and kube-apiserver, or unset it to have them built."
        )
    version = _version(kube_apiserver)
    if tuple(int(part) for part in version.split(".")[:2]) < _LEAST_KUBERNETES:
        least = ".".join(str(part) for part in _LEAST_KUBERNETES)
        raise ControlPlaneError(
            f"{kube_apiserver} (from KUBEBUILDER_ASSETS) is v{version}, but v{least} or newer is "
            "needed: set KUBEBUILDER_ASSETS to newer ones, or unset it to have them built."
        )
    return Binaries(etcd, _version(etcd), kube_apiserver, version)


def _version(program: Path) -> str:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ControlPlaneError(
            f"{program} (from KUBEBUILDER_ASSETS) does not run: {error}."
        ) from error
    found = re.search(r"\bv?(\d+\.\d+\.\d+\S*)", said)
    if not found:
        raise ControlPlaneError(f"{program} (from KUBEBUILDER_ASSETS) does not tell its version.")
    return found.group(1)
