"""The CRDs of a control plane: applied, deleted, served."""

import time
from collections.abc import Callable
from pathlib import Path

import yaml

from dev.controlplane.plane import ControlPlane
from tests.integration.harness.api import JSON, Api, ApiError, eventually

FILES = Path(__file__).parents[3] / "crds"
CRDS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def install(plane: ControlPlane, edit: Callable[[JSON], object] = lambda crd: None) -> None:
    """Apply the CRDs, changed by `edit`, and wait until the kinds are served."""
    api = Api(plane.kubeconfig)
    for file in sorted(FILES.glob("*.yaml")):
        crd = yaml.safe_load(file.read_text())
        edit(crd)
        api.request("POST", CRDS, crd)
    eventually(lambda: served(api), "the kinds are served", 60)


def uninstall(plane: ControlPlane) -> None:
    """Delete the CRDs, if they exist, and all objects with them."""
    api = Api(plane.kubeconfig)
    paths = [f"{CRDS}/{kind}.wazzup.dev" for kind in ("wazzupaccounts", "wazzupchannels")]
    woken = time.monotonic()

    def exists(path: str, method: str, *body: object) -> bool:
        try:
            api.request(method, path, *body)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    def gone() -> bool:
        nonlocal woken
        if not any(exists(path, "GET") for path in paths):
            return True
        if time.monotonic() > woken + 5:
            # The CRD finalizer fails if a kind is new ("storage is (re)initializing"). It tries
            # again at once, then, if its cache is stale, in five minutes; any change wakes it.
            woken = time.monotonic()
            body = {"metadata": {"annotations": {"woken": str(woken)}}}
            for path in paths:
                exists(path, "PATCH", body, "application/merge-patch+json")
        return False

    for path in paths:
        exists(path, "DELETE")
    eventually(gone, "the CRDs are deleted", 60)


def served(api: Api) -> bool:
    try:
        api.list("wazzupchannel"), api.list("wazzupaccount")
    except ApiError:
        return False
    return True
