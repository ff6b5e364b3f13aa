"""Access to the API server: that of the Pod this process runs in, or of a kubeconfig."""

import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import (
    ConfigException,
    load_incluster_config,
    load_kube_config,
    refresh_token,
)

from wazzup_operator.proxy import proxy_for

UNUSABLE = (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError, LookupError)
"""What `load_access` and the official client raise for a missing or invalid kubeconfig."""

TOKEN_PERIOD = 60.0
"""Seconds after which a token file is read again, or a plugin asked whether its token expires."""

Renewal = Coroutine[Any, Any, None]
"""To be run for as long as the configuration is used."""


async def load_access() -> tuple[Configuration, Renewal | None]:
    """Return the configuration, and what renews its token. Raises one of UNUSABLE."""
    configuration = Configuration()
    kubeconfig = os.environ.get("KUBECONFIG")
    if os.environ.get("KUBERNETES_SERVICE_HOST") and not kubeconfig:
        # It reads its token again every minute.
        load_incluster_config(client_configuration=configuration)
        return configuration, None
    files = _existing(kubeconfig or "~/.kube/config")
    loader = await load_kube_config(files, client_configuration=configuration)
    # In a Pod, the proxy is for traffic that leaves the cluster.
    configuration.proxy = configuration.proxy or proxy_for(configuration.host)
    user: Any = loader._user or {}
    _refuse_unsupported(user)
    if "exec" in user:
        if "BearerToken" not in configuration.api_key:
            raise ConfigException(
                f"the plugin {user['exec']['command']} returned no token, and nothing else is"
                " supported"
            )
        return configuration, refresh_token(loader, configuration, TOKEN_PERIOD)
    if "tokenFile" in user:
        file = Path(loader._get_base_path(user.path), user["tokenFile"])
        configuration.refresh_api_key_hook = _TokenFile(file)  # type: ignore[assignment]
    return configuration, None


def _refuse_unsupported(user: Any) -> None:
    for field in ("as", "as-uid", "as-groups", "as-user-extra", "auth-provider"):
        if field in user:
            raise ConfigException(f'the user has the field "{field}", which is not supported')


class _TokenFile:
    """A token that something else renews."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._due = 0.0

    def __call__(self, configuration: Configuration) -> None:
        """Read the token if it is time; keep the last one while the file cannot be read."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + TOKEN_PERIOD
        try:
            token = self._file.read_text().strip()
        except OSError:
            return
        if token:
            configuration.api_key["BearerToken"] = f"Bearer {token}"


def _existing(kubeconfig: str) -> str:
    files = [os.path.expanduser(file) for file in kubeconfig.split(os.pathsep)]
    if not any(os.path.exists(file) for file in files):
        raise FileNotFoundError(f"no such file: {kubeconfig}")
    return os.pathsep.join(files)
