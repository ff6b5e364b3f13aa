"""The webhook process: readiness, shutdown, logs."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from dev.controlplane.plane import ControlPlane
from tests.integration.admission.connections import (
    API_SERVER_WAITS,
    Start,
    drop,
    halves,
    refuses_connections,
)
from tests.integration.harness.api import Api, ApiError, channel, eventually
from tests.integration.harness.crds import install
from tests.integration.harness.load import (
    NAMESPACE,
    PHONE,
    Load,
    creation,
    renumbering,
    serial,
    switch,
    under_load,
    until,
)
from tests.integration.harness.webhook import (
    IMPOSSIBLE,
    PATIENCE,
    Authority,
    Configuration,
    of_chart,
    review,
    stored,
    trusting,
)
from wazzup_operator.admission.app import DRAIN


def test_it_is_ready_once_a_certificate_is_loaded(start: Start, authority: Authority) -> None:
    webhook = start(None, ready=False)
    eventually(
        lambda: "no certificate has been loaded" in webhook.probe("/readyz")[1],
        "it reports what is missing",
        PATIENCE,
    )
    assert webhook.probe("/readyz")[0] == 503
    assert webhook.probe("/healthz") == (200, "ok\n")
    with pytest.raises(OSError):
        ssl.get_server_certificate(("127.0.0.1", webhook.port), timeout=PATIENCE)
    pid = webhook.pid

    webhook.certificates.mount(authority.serving())
    webhook.trusted = authority.certificate
    webhook.wait_ready()
    assert webhook.review(creation())["allowed"]
    assert webhook.pid == pid


def test_a_pair_that_does_not_match_changes_nothing(start: Start, authority: Authority) -> None:
    webhook = start(authority)
    before = serial(webhook.port)
    pair, other = authority.serving(), authority.serving()
    webhook.certificates.mount(type(pair)(pair.certificate, other.key))
    eventually(lambda: "Cannot load the certificate" in webhook.log(), "it is logged", PATIENCE)
    assert webhook.count("certwatcher_read_certificate_total") == 2
    assert webhook.count("certwatcher_read_certificate_errors_total") == 1
    assert webhook.probe("/readyz")[0] == 200
    assert serial(webhook.port) == before
    assert webhook.review(creation())["allowed"]


def test_a_chain_with_an_rsa_key_from_cert_manager_is_served(start: Start) -> None:
    root, root_key = issued("root", None)
    intermediate, intermediate_key = issued("intermediate", (root, root_key))
    leaf, key = issued("localhost", (intermediate, intermediate_key), authority=False)
    webhook = start(None, ready=False)
    webhook.certificates.write(
        pem(leaf) + pem(intermediate),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,  # cert-manager's default, PKCS #1
            serialization.NoEncryption(),
        ),
    )
    webhook.trusted = pem(root)  # only: the webhook has to send the intermediate
    webhook.wait_ready()
    assert not webhook.review(creation(IMPOSSIBLE))["allowed"]
    assert serial(webhook.port) == leaf.serial_number


Issued = tuple[x509.Certificate, rsa.RSAPrivateKey]


def issued(name: str, issuer: Issued | None, *, authority: bool = True) -> Issued:
    """Return a certificate with an RSA key; without an issuer it signs itself."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signing = issuer or (None, key)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
            critical=False,
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=not authority,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=authority,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if not authority:
        alternative = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(signing, hashes.SHA256()), key


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def test_a_kubeconfig_with_an_exec_plugin_for_credentials(
    start: Start, authority: Authority, plane: ControlPlane, tmp_path: Path
) -> None:
    """As on EKS and GKE. KUBECONFIG wins over the Pod's service account."""
    given = of_chart(plane)
    config = yaml.safe_load(given.kubeconfig.read_text())
    (entry,) = config["users"]
    answer = tmp_path / "credential.json"
    answer.write_text(
        json.dumps(
            {
                "apiVersion": "client.authentication.k8s.io/v1",
                "kind": "ExecCredential",
                "status": entry["user"],
            }
        )
    )
    entry["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "cat",
            "args": [str(answer)],
            "interactiveMode": "Never",
        }
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    webhook = start(authority, given=replace(given, kubeconfig=kubeconfig))
    assert not webhook.review(creation(IMPOSSIBLE))["allowed"]
    assert "Cannot look up" not in webhook.log()
    assert "kopf ended" not in webhook.log()


def test_late_crds_and_an_api_server_that_stops(
    start: Start, authority: Authority, tmp_path: Path
) -> None:
    with ControlPlane(tmp_path / "plane") as plane:
        api = Api(plane.kubeconfig)
        webhook = start(authority, given=of_chart(plane), ready=False)
        eventually(
            lambda: "the handlers are not ready yet" in webhook.probe("/readyz")[1],
            "it reports what is missing",
            PATIENCE,
        )
        eventually(lambda: "does not serve both kinds" in webhook.log(), "and why", PATIENCE)
        assert webhook.post("/channel", creation())[0] == 503

        install(plane)
        webhook.wait_ready()
        assert not webhook.review(creation(IMPOSSIBLE))["allowed"]
        configuration = Configuration(api)
        configuration.point(webhook.port, authority.certificate)
        configuration.wait_refusing()
        api.create(channel("support", PHONE))
        with pytest.raises(ApiError, match='by the WazzupChannel "support" in this namespace'):
            api.create(channel("sales", PHONE))

        duplicate = review("CREATE", stored(channel("sales", PHONE), NAMESPACE))
        for end in (plane.stop_apiserver, plane.kill_apiserver):
            end()
            started = time.monotonic()
            assert "the API server is unreachable" in undecided(
                webhook.post("/channel", creation())
            )
            assert not webhook.review(renumbering())["allowed"]
            assert webhook.review(switch())["allowed"]
            assert time.monotonic() - started < 3 * API_SERVER_WAITS
            assert webhook.probe("/readyz")[0] == 200
            plane.start_apiserver()
            eventually(
                lambda: "already declared" in webhook.post("/channel", duplicate)[1],
                "lookups work again",
                PATIENCE,
            )


def undecided(answer: tuple[int, str]) -> str:
    """Check that the answer leaves the decision to the failurePolicy; return the reason."""
    status, reason = answer
    assert status == 500, reason
    return reason


async def test_every_review_is_answered_while_the_api_server_hangs_even_at_shutdown(
    start: Start, authority: Authority, tmp_path: Path
) -> None:
    with ControlPlane(tmp_path / "plane") as plane:
        install(plane)
        webhook = start(authority, given=of_chart(plane))
        assert webhook.review(creation())["allowed"]
        with hanging(plane):
            for waits, limit in ((3, API_SERVER_WAITS), (1, 2.0)):  # 2.0 is the limit for 3 s
                started = time.monotonic()
                path = f"/channel?timeout={waits}s"
                answer = await asyncio.to_thread(webhook.post, path, creation())
                took = time.monotonic() - started
                assert "the API server did not answer in time" in undecided(answer)
                assert took < limit
            assert not (await asyncio.to_thread(webhook.review, renumbering()))["allowed"]

            webhook.terminate()
            terminated = time.monotonic()
            await until(lambda: time.monotonic() > terminated + 1.5, "shutdown is nearly over")
            last = asyncio.create_task(asyncio.to_thread(webhook.post, "/channel", creation()))
            await until(lambda: refuses_connections(webhook.port), "the port is closed")
            assert not last.done()
            undecided(await last)


@contextlib.contextmanager
def hanging(plane: ControlPlane) -> Iterator[None]:
    """Pause the API server's process: the kernel accepts connections, nobody answers."""
    port = plane.url.rpartition(":")[2]
    words = ["pgrep", "-f", f"kube-apiserver.*--secure-port={port}"]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    pids = [int(pid) for pid in found.stdout.split()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_graceful_stop_loses_no_review(start: Start, authority: Authority) -> None:
    webhook = start(authority)
    load = Load(webhook, authority.certificate)
    async with under_load(load, 20):
        await until(lambda: load.sent > 200, "the load runs")
        load.until_closed = True
        terminated = time.monotonic()
        webhook.terminate()
        await until(
            lambda: webhook.probe("/readyz") == (503, "stopping\n"),
            "it reports that it is stopping",
        )
        before = load.sent
        await until(lambda: load.ended == 20, "each sender has seen the port closed")
    # Endpoints may be stale for that long.
    assert time.monotonic() - terminated > DRAIN
    assert load.sent > before + 20
    assert load.failures == []  # every connection got its answer
    assert await asyncio.to_thread(webhook.stop) == 0


async def test_slow_senders_and_idle_connections_do_not_delay_the_shutdown(
    start: Start, authority: Authority
) -> None:
    webhook = start(authority)
    head, first, _ = halves(json.dumps(creation()).encode())
    async with contextlib.AsyncExitStack() as stack:
        for sent in (b"", head[:20], head, head + first):
            _, writer = await asyncio.open_connection(
                "localhost", webhook.port, ssl=trusting(authority.certificate)
            )
            stack.push_async_callback(drop, writer)
            writer.write(sent)
            await writer.drain()
        # Within PATIENCE, which is Kubernetes' default grace period.
        assert await asyncio.to_thread(webhook.stop) == 0


@pytest.mark.parametrize("format_", ["text", "json"])
def test_logs_name_the_refused_object_and_the_rule_but_no_phone_number(
    start: Start, authority: Authority, format_: str
) -> None:
    webhook = start(authority, f"--log-format={format_}", "--log-level=debug")
    for body, allowed in ((renumbering(), False), (creation(IMPOSSIBLE), False), (switch(), True)):
        assert webhook.review(body)["allowed"] is allowed
    assert not webhook.review(creation("+749576543219"))["allowed"]
    webhook.post("/channel", b"+79865784457")
    broken = creation()
    broken["request"]["object"]["spec"] = {"phoneNumber": ["+79865784457"]}
    webhook.post("/channel", broken)
    eventually(lambda: webhook.log().count("is refused") == 3, "all refusals are logged", PATIENCE)
    log = webhook.log()
    assert "WazzupChannel 'default/support' is refused: phone-number-changed" in log
    assert "WazzupChannel 'default/support' is refused: number-impossible" in log
    for number in (PHONE, IMPOSSIBLE, "79990001122"):
        assert number.lstrip("+") not in log
    if format_ == "json":
        for line in log.splitlines():
            assert json.loads(line)["level"] in {"DEBUG", "INFO", "WARNING"}, line
    else:
        assert "ERROR" not in log
