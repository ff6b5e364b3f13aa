"""Synchronous requests to the API server with the administrator's rights."""

import base64
import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import yaml

JSON = dict[str, Any]
T = TypeVar("T")

WAZZUP = "apis/wazzup.dev/v1"
PATHS = {
    "wazzupchannel": (WAZZUP, "wazzupchannels"),
    "wazzupaccount": (WAZZUP, "wazzupaccounts"),
    "secret": ("api/v1", "secrets"),
    "event": ("apis/events.k8s.io/v1", "events"),
}


class ApiError(Exception):
    """A refusal by the API server: status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Api:
    """A client for one namespace, from a kubeconfig with embedded certificates."""

    def __init__(self, kubeconfig: Path, namespace: str = "default") -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.address = urlsplit(cluster["server"]).netloc
        self.tls = ssl.create_default_context(
            cadata=_decoded(cluster, "certificate-authority-data").decode()
        )
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(_decoded(user, "client-certificate-data"))
            pair.write(_decoded(user, "client-key-data"))
            pair.flush()
            self.tls.load_cert_chain(pair.name)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        **query: str,
    ) -> JSON:
        connection = http.client.HTTPSConnection(self.address, context=self.tls, timeout=20)
        target = f"/{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body)
        try:
            connection.request(method, target, data, {"Content-Type": content_type})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            try:
                message = json.loads(text)["message"]
            except (ValueError, KeyError):
                message = text
            raise ApiError(answer.status, message)
        return json.loads(text) if text.startswith("{") else {"text": text}

    def path(self, kind: str, name: str | None = None, namespace: str | None = None) -> str:
        root, plural = PATHS[kind]
        parts = [root, "namespaces", namespace or self.namespace, plural]
        return "/".join(parts + ([name] if name else []))

    def create(self, body: JSON) -> JSON:
        return self.request("POST", self.path(body["kind"].lower()), body)

    def get(self, kind: str, name: str) -> JSON:
        return self.request("GET", self.path(kind, name))

    def list(self, kind: str) -> list[JSON]:
        return self.request("GET", self.path(kind))["items"]

    def patch(self, kind: str, name: str, body: JSON, subresource: str = "") -> JSON:
        path = self.path(kind, name) + (f"/{subresource}" if subresource else "")
        return self.request("PATCH", path, body, "application/merge-patch+json")

    def delete(self, kind: str, name: str) -> JSON:
        return self.request("DELETE", self.path(kind, name))

    def request_listing(self, name: str = "default", kind: str = "wazzupaccount") -> None:
        """Request a listing now instead of at the next poll."""
        annotations = {"wazzup.dev/requested-at": str(time.time_ns())}
        self.patch(kind, name, {"metadata": {"annotations": annotations}})

    def exists(self, kind: str, name: str) -> bool:
        try:
            self.get(kind, name)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True


def _decoded(section: JSON, key: str) -> bytes:
    return base64.b64decode(section[key])


def eventually(look: Callable[[], T], what: str, seconds: float = 20.0) -> T:
    """Call `look` until it returns something truthy, and return that; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last result: {seen!r}"
        time.sleep(0.05)


def channel(name: str, phone: str, **spec: Any) -> JSON:
    """Return a WazzupChannel; `annotations` among the keywords go to its metadata."""
    annotations = spec.pop("annotations", {})
    return {
        "apiVersion": "wazzup.dev/v1",
        "kind": "WazzupChannel",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"phoneNumber": phone, **spec},
    }


def account(name: str = "default", secret: str = "wazzup", **spec: Any) -> JSON:
    """Return a WazzupAccount that is polled every 5 s."""
    return {
        "apiVersion": "wazzup.dev/v1",
        "kind": "WazzupAccount",
        "metadata": {"name": name},
        "spec": {"apiKeySecretRef": {"name": secret}, "pollInterval": "5s", **spec},
    }


def secret(key: str, name: str = "wazzup") -> JSON:
    """Return a Secret with an API key."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"apiKey": key},
    }


def conditions(status: JSON) -> dict[str, tuple[str, str]]:
    """Return status and reason of each condition, by type."""
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
