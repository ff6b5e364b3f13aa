"""The webhook as a process, its certificates, and the configuration that points to it."""

import base64
import copy
import http.client
import itertools
import json
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dev.controlplane.plane import ControlPlane
from dev.processes.port import free_port
from tests.integration.harness.api import JSON, Api, ApiError, channel, eventually
from tests.integration.harness.controller import Controller
from tests.integration.harness.release import ACCOUNTS, Given, given, rendered
from wazzup_operator.certificates.issue import Pair, dump_bundle, make_authority, make_serving

CONFIGURATIONS = "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
RELEASE = "wazzup"
USER = f"{ACCOUNTS}{RELEASE}-webhook"
PATIENCE = 30.0
IMPOSSIBLE = "+99912345678"
NINETY_DAYS = timedelta(days=90)


class Authority:
    """A CA, which signs for localhost."""

    def __init__(self) -> None:
        self._pair = make_authority(datetime.now(UTC))
        self.certificate = dump_bundle([self._pair.certificate])

    def serving(self) -> Pair:
        return make_serving(self._pair, ["localhost"], datetime.now(UTC), NINETY_DAYS)

    def expired(self) -> Pair:
        """A pair that nobody may believe since yesterday."""
        then = datetime.now(UTC) - timedelta(days=2)
        return make_serving(self._pair, ["localhost"], then, timedelta(days=1))


class CertificateDirectory:
    """A directory as the kubelet mounts a Secret: its files change at once, by a symbolic link."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._versions = itertools.count()
        path.mkdir()

    def mount(self, pair: Pair) -> None:
        self.write(dump_bundle([pair.certificate]), pair.key_pem)

    def write(self, certificate: bytes, key: bytes) -> None:
        version = self.path / f"..version-{next(self._versions)}"
        version.mkdir()
        (version / "tls.crt").write_bytes(certificate)
        (version / "tls.key").write_bytes(key)
        link = self.path / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.path / "..data")
        for name in ("tls.crt", "tls.key"):
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")


class Webhook(Controller):
    """One `wazzup-operator webhook`; its log goes to a file. It serves what is in `certificates`.

    The name `localhost` is what its certificate is for; `trusted` is what its clients trust.
    """

    def __init__(
        self, given: Given, directory: Path, authority: Authority | None, *flags: str
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.certificates = CertificateDirectory(directory / "certificates")
        # Of what it is told twice, the last holds: this is where the kubelet would mount and route.
        super().__init__(
            given.kubeconfig,
            directory / "webhook.log",
            *given.arguments,
            f"--webhook-address=127.0.0.1:{self.port}",
            f"--cert-dir={self.certificates.path}",
            *flags,
            environment=given.environment,
            subcommand="webhook",
        )
        if authority:
            self.certificates.mount(authority.serving())
        self.trusted = authority.certificate if authority else b""

    def stop(self, grace: float = PATIENCE) -> int:
        return super().stop(grace)

    def resident(self) -> int:
        """Return how much memory it has, in KiB."""
        words = ["ps", "-o", "rss=", "-p", str(self.pid)]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    def post(self, path: str, body: object, timeout: float = PATIENCE) -> tuple[int, str]:
        """Send a review straight to it, over a connection of its own."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=timeout, context=trusting(self.trusted)
        )
        try:
            connection.request("POST", path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def review(self, review: JSON) -> JSON:
        """Return its answer to a review."""
        kind = review["request"]["resource"]["resource"].removeprefix("wazzup").removesuffix("s")
        status, text = self.post(f"/{kind}", review)
        assert status == 200, text
        answer: JSON = json.loads(text)["response"]
        assert answer["uid"] == review["request"]["uid"]
        return answer


def trusting(bundle: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=bundle.decode())


_reviews = itertools.count()


def review(operation: str, new: JSON | None, old: JSON | None = None, **request: object) -> JSON:
    """Return what the API server sends for objects that have a namespace."""
    body = new or old
    assert body
    uid = f"review-{next(_reviews)}"
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "resource": {
                "group": "wazzup.dev",
                "version": "v1",
                "resource": f"{body['kind'].lower()}s",
            },
            "operation": operation,
            "namespace": body["metadata"]["namespace"],
            "name": body["metadata"]["name"],
            "userInfo": {"username": "somebody", "groups": ["system:authenticated"]},
            "object": new,
            "oldObject": old,
            "dryRun": False,
            **request,
        },
    }


def stored(body: JSON, namespace: str, **metadata: object) -> JSON:
    """Return an object as the API server sends it in a review."""
    body = copy.deepcopy(body)
    body["metadata"] |= {"namespace": namespace, "uid": f"uid-{next(_reviews)}", **metadata}
    return body


def of_chart(plane: ControlPlane) -> Given:
    """Return what the webhook of the chart is given, for all namespaces."""
    return given(plane, RELEASE, "webhook")


def _rendered(values: Sequence[str]) -> JSON:
    documents = rendered(RELEASE, *values)
    return next(each for each in documents if each["kind"] == "ValidatingWebhookConfiguration")


@dataclass
class Configuration:
    """The chart's webhook configuration in a cluster; only where it points to is another."""

    api: Api
    values: tuple[str, ...] = ()

    def point(self, port: int, bundle: bytes, path: str | None = None) -> None:
        """Apply it so that it points to a port of this machine, and to another path if given."""
        body = copy.deepcopy(_rendered(self.values))
        for webhook in body["webhooks"]:
            rendered = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {
                "url": f"https://localhost:{port}{rendered if path is None else path}",
                "caBundle": base64.b64encode(bundle).decode(),
            }
        self.api.request(
            "PATCH",
            f"{CONFIGURATIONS}/{body['metadata']['name']}",
            body,
            "application/apply-patch+yaml",
            fieldManager="tests",
            force="true",
        )

    def remove(self) -> None:
        name = _rendered(self.values)["metadata"]["name"]
        self.api.request("DELETE", f"{CONFIGURATIONS}/{name}")

    def wait_refusing(self) -> None:
        """Wait until the API server follows it to a webhook that answers."""
        eventually(lambda: not self.lets_in(), "impossible numbers are refused", PATIENCE)

    def lets_in(self) -> bool:
        """Return whether a number that cannot exist is let in; nothing is stored."""
        try:
            self.api.request(
                "POST",
                self.api.path("wazzupchannel"),
                channel("impossible", IMPOSSIBLE),
                dryRun="All",
            )
        except ApiError as error:
            return "cannot be a phone number" not in error.message
        return True
