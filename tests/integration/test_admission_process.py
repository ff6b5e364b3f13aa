"""The webhook as a process: when it is ready, how it ends, what it bears, what it prints.

Two of these tests have a short form, which runs always, and a full one for ADMISSION_DRILL=1.
"""

import asyncio
import contextlib
import gc
import http.client
import itertools
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from asyncio import Event
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography import x509

from dev.controlplane.plane import ControlPlane
from tests.integration.conftest import install
from tests.integration.harness.api import JSON, Api, ApiError, account, channel, eventually
from tests.integration.harness.webhook import (
    IMPOSSIBLE,
    PATIENCE,
    USER,
    Authority,
    Configuration,
    Webhook,
    grant,
    review,
    stored,
    trusting,
)
from wazzup_operator.admission.app import DRAIN, _run_kopf
from wazzup_operator.admission.evidence import Evidence
from wazzup_operator.admission.handlers import PATHS, Handlers
from wazzup_operator.admission.server import ReviewServer
from wazzup_operator.kube.client import KubeClient
from wazzup_operator.lifecycle import end

PHONE = "+79865784457"
DRILL = os.environ.get("ADMISSION_DRILL") == "1"
API_SERVER_WAITS = 3.0
FLAT = 1.05
NAMESPACE = "default"

Start = Callable[..., Webhook]


@pytest.fixture(autouse=True)
def no_implicit_event_loop() -> None:
    """Before Python 3.14, pytest-asyncio asks for a loop that is then made and never closed."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="module")
def user(plane: ControlPlane) -> Path:
    """The kubeconfig of a user with the webhook's rights."""
    grant(Api(plane.kubeconfig))
    return plane.kubeconfig_for(USER)


@pytest.fixture
def start(user: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a webhook; at the end it has to stop as it should and to have told no numbers."""
    started: list[Webhook] = []

    def start(
        authority: Authority | None, *flags: str, kubeconfig: Path = user, ready: bool = True
    ) -> Webhook:
        directory = tmp_path / f"webhook-{len(started)}"
        webhook = Webhook(kubeconfig, directory, authority, *flags)
        started.append(webhook)
        webhook.start()
        if ready:
            webhook.wait_ready()
        return webhook

    try:
        yield start
        for webhook in started:
            end_well(webhook)
    finally:
        for webhook in started:
            if webhook.running():
                webhook.kill()


def end_well(webhook: Webhook) -> None:
    """Stop it as Kubernetes does, and search what it printed for numbers and traces."""
    assert webhook.stop() == 0
    assert re.findall(r"\d{8,}", webhook.log()) == []
    assert "Traceback" not in webhook.log()


@pytest.fixture
def authority() -> Authority:
    return Authority()


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Tell the person in front of the tests, whatever captures the output."""
    with capsys.disabled():
        sys.stderr.write(f"\n{text}\n")
        sys.stderr.flush()


def form(capsys: pytest.CaptureFixture[str], what: str) -> None:
    full = "in full" if DRILL else "in its short form; ADMISSION_DRILL=1 runs it in full"
    say(capsys, f"{what} runs {full}")


# Reviews


def creation(phone: str = PHONE) -> JSON:
    return review("CREATE", stored(channel("support", phone), NAMESPACE))


def switch() -> JSON:
    new, old = channel("support", PHONE, active=False), channel("support", PHONE, active=True)
    return review("UPDATE", stored(new, NAMESPACE), stored(old, NAMESPACE))


def renumbering() -> JSON:
    new, old = channel("support", "+79990001122"), channel("support", PHONE)
    return review("UPDATE", stored(new, NAMESPACE), stored(old, NAMESPACE))


KINDS = (
    (creation, True),
    (switch, True),
    (renumbering, False),
    (lambda: creation(IMPOSSIBLE), False),
)
"""Reviews, and whether they are allowed."""


@dataclass
class Load:
    """A number of senders of reviews, straight to the HTTPS port.

    Every second one sends each review over a connection of its own.
    """

    webhook: Webhook
    bundle: bytes
    sent: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    sending: bool = True
    until_closed: bool = False
    """Whether a sender ends without a failure where it can make no new connection any more."""
    ended: int = 0

    def trust(self, *certificates: bytes) -> None:
        self.bundle = b"".join(certificates)
        self._context = trusting(self.bundle)

    async def run(self, senders: int, count: int | None = None) -> None:
        """Send so many, or until `sending` is set to False."""
        self.trust(self.bundle)
        numbers = iter(range(count)) if count is not None else itertools.count()
        url = f"https://localhost:{self.webhook.port}/channel"
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as keeping,
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True)
            ) as closing,
        ):
            await asyncio.gather(
                *(
                    self._send(closing if sender % 2 else keeping, url, numbers)
                    for sender in range(senders)
                )
            )

    async def _send(self, session: aiohttp.ClientSession, url: str, numbers: Iterator[int]) -> None:
        for number in numbers:
            if not self.sending:
                return
            make, allowed = KINDS[number % len(KINDS)]
            body = make()
            begun = time.monotonic()
            try:
                async with session.post(url, json=body, ssl=self._context) as answer:
                    text = await answer.text()
                    right = (
                        answer.status == 200
                        and json.loads(text)["response"]["allowed"] is allowed
                        and json.loads(text)["response"]["uid"] == body["request"]["uid"]
                    )
            except (aiohttp.ClientError, OSError) as error:
                if self.until_closed and isinstance(error, aiohttp.ClientConnectorError):
                    self.ended += 1
                    return
                right, text = False, repr(error)
            if not right:
                self.failures.append(text)
            self.sent += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)


@contextlib.asynccontextmanager
async def under_load(load: Load, senders: int) -> AsyncIterator[None]:
    running = asyncio.create_task(load.run(senders))
    try:
        yield
    finally:
        load.sending = False
        await running


async def until(look: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait in a thread, so that the senders go on."""
    await asyncio.to_thread(eventually, look, what, seconds)


def serial(port: int) -> int:
    """Return the serial number of the certificate that is served."""
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=PATIENCE)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


# Ready


def test_it_is_ready_once_a_certificate_is_there(start: Start, authority: Authority) -> None:
    webhook = start(None, ready=False)
    eventually(
        lambda: "no certificate has been loaded" in webhook.probe("/readyz")[1],
        "it says what it lacks",
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
    eventually(lambda: "No certificate was loaded" in webhook.log(), "it is said", PATIENCE)
    assert webhook.count("certwatcher_read_certificate_total") == 2
    assert webhook.count("certwatcher_read_certificate_errors_total") == 1
    assert webhook.probe("/readyz")[0] == 200
    assert serial(webhook.port) == before
    assert webhook.review(creation())["allowed"]


def test_crds_that_come_late_and_an_api_server_that_goes(
    start: Start, authority: Authority, tmp_path: Path
) -> None:
    with ControlPlane(tmp_path / "plane") as plane:
        api = Api(plane.kubeconfig)
        grant(api)
        webhook = start(authority, kubeconfig=plane.kubeconfig_for(USER), ready=False)
        eventually(
            lambda: "the handlers are not ready yet" in webhook.probe("/readyz")[1],
            "it says what it lacks",
            PATIENCE,
        )
        eventually(lambda: "CRDs are not applied yet" in webhook.log(), "and why", PATIENCE)
        assert webhook.post("/channel", creation())[0] == 503

        install(plane)
        webhook.wait_ready()
        assert not webhook.review(creation(IMPOSSIBLE))["allowed"]
        configuration = Configuration(api)
        configuration.point(webhook.port, authority.certificate)
        configuration.wait_refusing()
        api.create(channel("support", PHONE))
        with pytest.raises(ApiError, match='The WazzupChannel "support" of this namespace'):
            api.create(channel("sales", PHONE))

        for end in (plane.stop_apiserver, plane.kill_apiserver):
            end()
            begun = time.monotonic()
            assert webhook.review(creation())["allowed"]
            assert not webhook.review(renumbering())["allowed"]
            assert time.monotonic() - begun < 2 * API_SERVER_WAITS
            assert webhook.probe("/readyz")[0] == 200
            plane.start_apiserver()
            eventually(
                lambda: not webhook.review(review_of_a_rival())["allowed"],
                "it looks other objects up again",
                PATIENCE,
            )


def review_of_a_rival() -> JSON:
    return review("CREATE", stored(channel("sales", PHONE), NAMESPACE))


async def test_an_api_server_that_hangs_costs_no_answer_not_even_the_last(
    start: Start, authority: Authority, tmp_path: Path
) -> None:
    with ControlPlane(tmp_path / "plane") as plane:
        install(plane)
        grant(Api(plane.kubeconfig))
        webhook = start(authority, kubeconfig=plane.kubeconfig_for(USER))
        assert webhook.review(creation())["allowed"]
        with hanging(plane):
            begun = time.monotonic()
            answer = await asyncio.to_thread(webhook.review, creation())
            took = time.monotonic() - begun
            assert answer["allowed"]
            assert took < API_SERVER_WAITS, f"{took:.2f} s: the API server has given up by then"

            webhook.terminate()
            told = time.monotonic()
            await until(lambda: time.monotonic() > told + 1.5, "the end is near")
            last = asyncio.create_task(asyncio.to_thread(webhook.review, creation()))
            await until(lambda: refuses_connections(webhook.port), "it takes no more connections")
            assert not last.done()
            assert (await last)["allowed"]


@contextlib.contextmanager
def hanging(plane: ControlPlane) -> Iterator[None]:
    """Let the API server take requests and answer none."""
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


# What no configuration keeps from it


def test_the_handlers_themselves_let_pass_what_always_passes(
    start: Start, authority: Authority
) -> None:
    webhook = start(authority, "--min-poll-interval=60s")
    wrong = stored(channel("support", IMPOSSIBLE), NAMESPACE)
    going = stored(
        channel("support", "+99912345679", active=False),
        NAMESPACE,
        deletionTimestamp="2026-01-01T00:00:00Z",
    )
    short = stored(account(pollInterval="10s"), NAMESPACE)
    passing = {
        "spec of an account left alone": review("UPDATE", short, short),
        "account being deleted": review(
            "UPDATE",
            stored(
                account(pollInterval="20s"), NAMESPACE, deletionTimestamp="2026-01-01T00:00:00Z"
            ),
            short,
        ),
        "spec left alone": review("UPDATE", wrong, wrong),
        "being deleted": review("UPDATE", going, wrong),
        "deletion": review("DELETE", None, wrong),
        "status": review("UPDATE", going | {"metadata": wrong["metadata"]}, wrong)
        | {"status": None},
        "secret missing": review("CREATE", stored(account(pollInterval="60s"), NAMESPACE)),
    }
    passing["status"]["request"]["subResource"] = "status"
    for what, body in passing.items():
        answer = webhook.review(body)
        assert answer["allowed"], what
        assert "warnings" not in answer, what


# The end


async def test_a_graceful_stop_loses_no_review(start: Start, authority: Authority) -> None:
    webhook = start(authority)
    load = Load(webhook, authority.certificate)
    async with under_load(load, 20):
        await until(lambda: load.sent > 200, "the load runs")
        load.until_closed = True
        told = time.monotonic()
        webhook.terminate()
        await until(lambda: webhook.probe("/readyz") == (503, "stopping\n"), "it says so")
        before = load.sent
        await until(lambda: load.ended == 20, "each sender has seen the port closed")
    # For so long may those who route to it not have noticed.
    assert time.monotonic() - told > DRAIN
    assert load.sent > before + 20
    assert load.failures == []  # no connection that was made came to nothing
    assert await asyncio.to_thread(webhook.stop) == 0


def halves(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a request's head, and its body in two parts."""
    head = (
        b"POST /channel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    return head, body[:100], body[100:]


def refuses_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


async def drop(writer: asyncio.StreamWriter) -> None:
    """Close a connection without the ceremony of TLS, and see it closed."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_slow_senders_and_idle_connections_do_not_hold_up_the_end(
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
        # Within PATIENCE, which is as long as Kubernetes waits before it kills.
        assert await asyncio.to_thread(webhook.stop) == 0


# Endurance


async def test_kopf_remembers_no_object(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where it can be counted: a kilobyte an object shows late in the memory."""
    monkeypatch.setenv("KUBECONFIG", str(user))
    kube, server = await KubeClient.connect(lambda *_: None), ReviewServer(PATHS)
    kopf = asyncio.create_task(_run_kopf(kube, Handlers(Evidence(kube), 5.0), server, Event()))
    try:
        await until(lambda: server.ready, "kopf is ready")
        async with TestClient(TestServer(server.app())) as client:
            for number in range(100):
                make, allowed = KINDS[number % len(KINDS)]
                answer = await client.post("/channel", json=make())
                assert (await answer.json())["response"]["allowed"] is allowed
    finally:
        await end({kopf})
        await kube.close()
    gc.collect()
    # One is there for all objects without a uid.
    assert sum(type(each).__name__ == "ResourceMemory" for each in gc.get_objects()) <= 1


@pytest.mark.timeout(1800)
async def test_memory_stays_flat(
    start: Start, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    """In its short form this shows what is kept of each review, if that is a lot."""
    form(capsys, "the test of flat memory")
    webhook = start(authority)
    count, warm = (20_000, 1_000) if DRILL else (600, 400)
    await Load(webhook, authority.certificate).run(20, warm)
    before = webhook.resident()
    load, begun = Load(webhook, authority.certificate), time.monotonic()
    await load.run(20, count)
    after, took = webhook.resident(), time.monotonic() - begun
    say(
        capsys,
        f"{count} reviews in {took:.1f} s, {before} KiB before, {after} KiB after"
        f" ({after / before - 1:+.1%})",
    )
    assert load.failures == []
    assert load.sent == count
    assert after <= before * FLAT


@pytest.mark.timeout(600)
async def test_a_renewed_pair_and_a_new_ca_under_load_fail_no_review(
    start: Start, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    form(capsys, "the test of certificates under load")
    senders, seconds = (50, 60.0) if DRILL else (10, 12.0)
    webhook = start(authority)
    port = webhook.port
    load = Load(webhook, authority.certificate)
    begun = time.monotonic()
    async with under_load(load, senders):
        await until(lambda: load.sent > senders, "the load runs")
        renewed = authority.serving()
        webhook.certificates.mount(renewed)
        await until(lambda: serial(port) == renewed.certificate.serial_number, "it is renewed")
        await until(lambda: time.monotonic() > begun + seconds / 2, "half the time is over")

        successor = Authority()
        load.trust(authority.certificate, successor.certificate)
        pair = successor.serving()
        webhook.certificates.mount(pair)
        await until(lambda: serial(port) == pair.certificate.serial_number, "its CA is new")
        load.trust(successor.certificate)
        await until(lambda: time.monotonic() > begun + seconds, "the time is over")
    took = time.monotonic() - begun
    say(
        capsys,
        f"{load.sent} reviews, {senders} in flight, in {took:.1f} s ({load.sent / took:.0f} a"
        f" second), {len(load.failures)} failed, the slowest took {load.slowest:.2f} s",
    )
    assert load.failures == []


# Garbage


@pytest.fixture(scope="module")
def sturdy(user: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """One webhook, which has to bear all of it."""
    webhook = Webhook(user, tmp_path_factory.mktemp("sturdy"), Authority())
    webhook.start()
    try:
        webhook.wait_ready()
        yield webhook
        end_well(webhook)
    finally:
        if webhook.running():
            webhook.kill()


def quick(webhook: Webhook) -> None:
    """Check that it serves as fast as the API server needs it."""
    assert webhook.running()
    begun = time.monotonic()
    assert not webhook.review(renumbering())["allowed"]
    assert time.monotonic() - begun < API_SERVER_WAITS
    assert webhook.probe("/healthz")[0] == 200


GARBAGE = {
    "plain HTTP": b"POST /channel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    "words": b"phone +79865784457\r\n\r\n",
    "noise": bytes(range(256)) * 64,
    "half a greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nothing": b"",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_what_is_not_tls_is_dropped(sturdy: Webhook, what: str) -> None:
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", sturdy.port), timeout=PATIENCE) as connection:
            connection.sendall(GARBAGE[what])
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while connection.recv(4096):
                    pass
    quick(sturdy)


@pytest.mark.parametrize(
    "garbage",
    [
        b"+79865784457 +79865784457 +79865784457\r\n\r\n",
        b"POST /channel HTTP/9.9\r\n\r\n",
        b"POST /+79865784457 HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /channel HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"7" * 100_000 + b"\r\n\r\n",
        b"POST /channel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        bytes(range(256)),
    ],
    ids=["words", "HTTP 9", "no length", "a large head", "broken chunks", "noise"],
)
def test_what_is_not_http_is_refused(sturdy: Webhook, garbage: bytes) -> None:
    for _ in range(20):
        with tls(sturdy) as connection, contextlib.suppress(OSError):
            connection.sendall(garbage)
            said = connection.recv(4096)
            assert not said or re.match(rb"HTTP/1.[01] 400 ", said), said
    quick(sturdy)


@contextlib.contextmanager
def tls(webhook: Webhook) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", webhook.port), timeout=PATIENCE) as connection,
        trusting(webhook.trusted).wrap_socket(connection, server_hostname="localhost") as wrapped,
    ):
        yield wrapped


def test_what_is_not_a_review_is_refused(sturdy: Webhook) -> None:
    for path, body in (
        ("/channel", b"phone +79865784457"),
        ("/channel", {"kind": "ConversionReview"}),
        ("/nothing", b""),
        ("/", {"kind": "AdmissionReview"}),
    ):
        assert sturdy.post(path, body)[0] == 400
    quick(sturdy)


def test_a_review_that_a_wrong_configuration_sends_is_refused(sturdy: Webhook) -> None:
    pod = creation()
    pod["request"]["resource"] = {"group": "", "version": "v1", "resource": "pods"}
    for path, body in (
        ("/channel", pod),
        ("/account", creation()),
        ("/nothing", creation()),
        ("/", creation()),
    ):
        status, text = sturdy.post(path, body)
        assert status == 200
        assert not json.loads(text)["response"]["allowed"]
        assert "in the webhook configuration" in text
    quick(sturdy)


def test_bodies_of_10_mib_are_refused_and_leave_nothing_behind(sturdy: Webhook) -> None:
    quick(sturdy)
    large = b'{"kind": "AdmissionReview", "x": "' + b"7" * 10 * 2**20 + b'"}'

    def send() -> int | None:
        """Return the status; None: it was lost, as the answer may come before all is sent."""
        context = trusting(sturdy.trusted)
        with contextlib.closing(
            http.client.HTTPSConnection("localhost", sturdy.port, timeout=PATIENCE, context=context)
        ) as connection:
            connection.connect()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                connection.request("POST", "/channel", large)
            try:
                return connection.getresponse().status
            except (ConnectionError, ssl.SSLError):
                return None

    statuses = [send() for _ in range(3)]
    before = sturdy.resident()
    statuses += [send() for _ in range(20)]
    quick(sturdy)
    assert sturdy.resident() < before + 20 * 1024
    assert set(statuses) - {None} == {413}


async def test_slow_senders_keep_nobody_waiting(sturdy: Webhook) -> None:
    head, first, second = halves(json.dumps(creation()).encode())
    context = trusting(sturdy.trusted)

    async def drip(at_once: bytes, bytewise: bytes) -> bytes:
        """Send a byte now and then until there is an answer."""
        reader, writer = await asyncio.open_connection("localhost", sturdy.port, ssl=context)
        answer = asyncio.create_task(reader.read())
        try:
            writer.write(at_once)
            for byte in bytewise:
                writer.write(bytes([byte]))
                await asyncio.wait({answer}, timeout=0.1)
                if answer.done():
                    return answer.result()
            return b"it waited"
        finally:
            answer.cancel()
            await drop(writer)

    heads = [asyncio.create_task(drip(b"", head)) for _ in range(25)]
    bodies = [asyncio.create_task(drip(head, first + second)) for _ in range(25)]
    while not all(each.done() for each in bodies):
        await asyncio.to_thread(quick, sturdy)
        await asyncio.wait(bodies, timeout=1)
    for body in bodies:
        assert body.result().startswith(b"HTTP/1.1 408 ")
    for each in heads:
        each.cancel()
    await asyncio.gather(*heads, return_exceptions=True)


@pytest.mark.parametrize("greeted", [False, True], ids=["before TLS", "after TLS"])
async def test_a_thousand_idle_connections(sturdy: Webhook, greeted: bool) -> None:
    context = trusting(sturdy.trusted) if greeted else None
    async with contextlib.AsyncExitStack() as stack:

        async def connect() -> None:
            _, writer = (
                await asyncio.open_connection(
                    "localhost", sturdy.port, ssl=context, ssl_handshake_timeout=PATIENCE
                )
                if context
                else await asyncio.open_connection("localhost", sturdy.port)
            )
            stack.push_async_callback(drop, writer)

        for _ in range(20):
            await asyncio.gather(*(connect() for _ in range(50)))
        load = Load(sturdy, sturdy.trusted)
        await load.run(10, 200)
        assert load.failures == []
        assert load.slowest < API_SERVER_WAITS
        await asyncio.to_thread(quick, sturdy)


# Logs


@pytest.mark.parametrize("format_", ["text", "json"])
def test_logs_tell_who_was_refused_why_and_no_number(
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
    eventually(lambda: webhook.log().count("is refused") == 3, "all is logged", PATIENCE)
    log = webhook.log()
    assert "WazzupChannel default/support is refused: phone-number-changed" in log
    assert "WazzupChannel default/support is refused: number-impossible" in log
    for number in (PHONE, IMPOSSIBLE, "79990001122"):
        assert number.lstrip("+") not in log
    if format_ == "json":
        for line in log.splitlines():
            assert json.loads(line)["level"] in {"DEBUG", "INFO", "WARNING"}, line
    else:
        assert "ERROR" not in log
