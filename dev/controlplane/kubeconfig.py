"""Files that tell a client where an API server is and who the client is there."""

import base64
import json
from pathlib import Path

from dev.controlplane.certificates import KeyPair


def write_kubeconfig(path: Path, *, url: str, authority: bytes, user: str, pair: KeyPair) -> None:
    """Writes a kubeconfig that only its owner may read: it has the private key in it.

    `authority` is the certificate, PEM, that the server at `url` is verified against.
    """
    cluster = {"server": url, "certificate-authority-data": _base64(authority)}
    credentials = {
        "client-certificate-data": _base64(pair.certificate),
        "client-key-data": _base64(pair.key),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=2) + "\n")


def _base64(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
