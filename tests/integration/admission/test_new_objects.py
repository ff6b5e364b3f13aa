"""New objects: refused, allowed with a warning, allowed; also two at the same time."""

import itertools
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.integration.admission.site import (
    CREATE_WAYS,
    OTHER_PHONE,
    PHONE,
    SHORT_INTERVAL,
    Site,
    add_account_and_channel,
    allowed,
    allowed_silently,
    assert_clean_log,
    each_rule_and_way,
    refused,
)
from tests.integration.harness.api import JSON, ApiError, account, channel, eventually
from tests.integration.harness.webhook import (
    IMPOSSIBLE,
    PATIENCE,
    USER,
    CertificateDirectory,
    Webhook,
    of_chart,
)
from tests.integration.harness.world import World

TAKEN = (
    f'{PHONE} is already declared by the WazzupChannel "support" in this namespace. Change that'
    ' object, or, to replace it, annotate this one with wazzup.dev/replaces: "support" and delete'
    ' "support" afterwards.'
)
DENIED_NEW = {
    "number-impossible": (
        channel("new", IMPOSSIBLE),
        f"{IMPOSSIBLE} cannot be a phone number: no country has numbers with this beginning and"
        " length. Check the country code and count the digits.",
    ),
    "number-taken": (channel("new", PHONE), TAKEN),
}
WARNED_NEW = {
    "number-unassigned": (
        channel("new", "+70000000000"),
        "+70000000000 has a possible length, but is in no range that is known to be assigned. Check"
        " the digits.",
    ),
    "account-missing": (
        channel("new", OTHER_PHONE, accountRef={"name": "second"}),
        'The WazzupAccount "second" does not exist in this namespace. Create it; until then, the'
        " state of this channel is unknown.",
    ),
    "poll-interval-short": (account("new", pollInterval="10s"), SHORT_INTERVAL),
}


@pytest.mark.parametrize(("rule", "way"), each_rule_and_way(DENIED_NEW, CREATE_WAYS))
def test_a_new_object_is_refused(strict: World, rule: str, way: str) -> None:
    add_account_and_channel(strict)
    body, sentence = DENIED_NEW[rule]
    refused(strict.kubectl(*CREATE_WAYS[way], stdin=json.dumps(body)), sentence)
    assert not strict.api.exists("wazzupchannel", "new")


@pytest.mark.parametrize(("rule", "way"), each_rule_and_way(WARNED_NEW, CREATE_WAYS))
def test_a_new_object_is_allowed_with_a_warning(strict: World, rule: str, way: str) -> None:
    add_account_and_channel(strict)
    body, sentence = WARNED_NEW[rule]
    done = strict.kubectl(*CREATE_WAYS[way], stdin=json.dumps(body))
    allowed(done, sentence)
    assert done.stderr.count("Warning: ") == 1
    assert strict.api.exists(body["kind"].lower(), "new") == ("--dry-run=server" not in way)


def test_a_correct_new_object_is_allowed_without_warning(strict: World) -> None:
    add_account_and_channel(strict)
    for body in (channel("new", OTHER_PHONE), account("second", pollInterval="30s")):
        allowed_silently(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)))


def test_a_refusal_has_a_status_code_that_clients_do_not_retry(strict: World) -> None:
    with pytest.raises(ApiError) as error:
        strict.declare("new", IMPOSSIBLE)
    assert error.value.status == 422


def test_a_name_that_the_api_server_generates(strict: World) -> None:
    add_account_and_channel(strict)
    body = channel("new", PHONE)
    body["metadata"] = {"generateName": "support-"}
    refused(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)), TAKEN)
    body["spec"]["phoneNumber"] = OTHER_PHONE
    allowed_silently(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)))


def test_an_object_does_not_conflict_with_itself(strict: World) -> None:
    add_account_and_channel(strict)
    body = json.dumps(channel("support", PHONE))
    done = strict.kubectl("create", "-f", "-", stdin=body)
    assert "AlreadyExists" in done.stderr
    allowed(strict.kubectl("apply", "-f", "-", stdin=body))
    allowed_silently(strict.kubectl("replace", "--force", "-f", "-", stdin=body))


def test_a_file_that_declares_a_number_twice(strict: World) -> None:
    strict.api.create(account(pollInterval="60s"))
    bodies = [channel("support", PHONE), channel("sales", PHONE), channel("shop", OTHER_PHONE)]
    done = strict.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, bodies)))
    refused(done, TAKEN)
    names = {each["metadata"]["name"] for each in strict.api.list("wazzupchannel")}
    assert names == {"support", "shop"}


def test_a_number_in_another_spelling_is_taken(strict: World) -> None:
    add_account_and_channel(strict)
    strict.declare("older", "+525512345678")
    refused(
        strict.kubectl("create", "-f", "-", stdin=json.dumps(channel("younger", "+5215512345678"))),
        '+5215512345678 is already declared by the WazzupChannel "older" in this namespace',
    )


def test_a_number_may_be_declared_once_per_transport(strict: World) -> None:
    add_account_and_channel(strict)
    body = channel("api", PHONE, transport="wapi")
    allowed_silently(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)))


def test_other_namespaces_are_not_checked(site: Site, strict: World) -> None:
    add_account_and_channel(site.world())
    strict.api.create(account(pollInterval="60s"))
    allowed_silently(strict.kubectl("create", "-f", "-", stdin=json.dumps(channel("new", PHONE))))


def test_the_annotation_replaces_allows_a_replacement(strict: World) -> None:
    add_account_and_channel(strict)
    for replaces in ("sales", ""):
        body = channel("new", PHONE, annotations={"wazzup.dev/replaces": replaces})
        refused(strict.kubectl("apply", "-f", "-", stdin=json.dumps(body)), TAKEN)
    body = channel("new", PHONE, annotations={"wazzup.dev/replaces": "support"})
    allowed_silently(strict.kubectl("apply", "-f", "-", stdin=json.dumps(body)))
    # A third object would replace two, and the annotation names one.
    refused(
        strict.kubectl(
            "apply", "-f", "-", stdin=json.dumps(body).replace('"name": "new"', '"name": "third"')
        ),
        f'{PHONE} is already declared by the WazzupChannels "new", "support" in this namespace',
        "Delete all but one of them",
    )
    allowed_silently(strict.kubectl("delete", "wazzupchannel", "support"))
    assert strict.api.exists("wazzupchannel", "new")


def test_an_object_that_is_being_deleted_does_not_hold_its_number(strict: World) -> None:
    strict.api.create(account(pollInterval="60s"))
    body = channel("support", PHONE)
    body["metadata"]["finalizers"] = ["example.org/hold"]
    strict.api.create(body)
    new = json.dumps(channel("new", PHONE))
    refused(strict.kubectl("create", "-f", "-", stdin=new), TAKEN)
    strict.api.delete("wazzupchannel", "support")
    allowed_silently(strict.kubectl("create", "-f", "-", stdin=new))


def test_the_webhook_used_only_its_own_permissions(site: Site, strict: World) -> None:
    add_account_and_channel(strict)
    strict.kubectl("create", "-f", "-", stdin=json.dumps(channel("new", PHONE)))
    used = set()
    for line in site.plane.audit_log.read_text().splitlines():
        if f'"username":"{USER}"' in line and '"objectRef"' in line:
            entry = json.loads(line)
            assert entry["responseStatus"]["code"] in (200, 404), line
            used.add((entry["verb"], entry["objectRef"]["resource"]))
            if entry["verb"] == "list":
                assert "fieldSelector=spec.phoneNumber" in entry["requestURI"]
    assert used == {("list", "wazzupchannels"), ("get", "wazzupaccounts")}


ONLY = "only /channel and /account; correct clientConfig in the webhook configuration."
TYPOS = {
    "a letter is missing": ("/hannel", f'The webhook has no path "/hannel", {ONLY}'),
    "no path": ("", f'The webhook has no path "/", {ONLY}'),
    "the other kind's": (
        "/account",
        "The webhook's path /account is for wazzupaccounts.v1.wazzup.dev, not for"
        " wazzupchannels.v1.wazzup.dev; correct clientConfig and rules in the webhook"
        " configuration.",
    ),
}


@pytest.mark.parametrize(("path", "sentence"), TYPOS.values(), ids=TYPOS)
def test_a_wrong_path_in_the_configuration_is_reported_even_if_failures_are_ignored(
    site: Site, strict: World, path: str, sentence: str
) -> None:
    add_account_and_channel(strict)
    new = json.dumps(channel("new", OTHER_PHONE))
    site.configuration.point(site.webhook.port, site.authority.certificate, path)
    try:
        eventually(
            lambda: strict.kubectl("create", "--dry-run=server", "-f", "-", stdin=new).returncode,
            "the API server follows the configuration",
            PATIENCE,
        )
        refused(strict.kubectl("create", "-f", "-", stdin=new), sentence)
        assert not strict.api.exists("wazzupchannel", "new")
        allowed_silently(strict.kubectl("label", "wazzupchannel", "support", "team=shop"))
        allowed_silently(strict.kubectl("delete", "wazzupchannel", "support"))
    finally:
        site.point_to_webhook()
    allowed_silently(strict.kubectl("create", "-f", "-", stdin=new))


class Relay(ThreadingHTTPServer):
    """Stands in for a Service: sends reviews to each replica in turn.

    It holds the answers for "first" and "second" back until it has both, so that neither object is
    stored while the other's number is looked up.
    """

    daemon_threads = True

    def __init__(self, certificates: CertificateDirectory, replicas: list[Webhook]) -> None:
        super().__init__(("127.0.0.1", 0), _RelayHandler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.path / "tls.crt", certificates.path / "tls.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.turns = itertools.cycle(replicas)
        self.asked = False
        self.both = threading.Barrier(2)
        self.answers: list[JSON] = []


class _RelayHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Relay

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        review = json.loads(data)
        self.server.asked = True
        replica = next(self.server.turns)
        status, text = replica.post(self.path, data)
        if review["request"]["name"] in {"first", "second"}:
            self.server.answers.append({**json.loads(text), "by": replica.port})
            self.server.both.wait(PATIENCE)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        """Do not log."""


def asked(site: Site, relay: Relay) -> bool:
    assert not site.configuration.admits_impossible()
    return relay.asked


@contextmanager
def two_replicas(site: Site) -> Iterator[Relay]:
    """Let the API server call two replicas in turn."""
    second = Webhook(of_chart(site.plane), site.directory / "second", site.authority)
    second.start()
    certificates = CertificateDirectory(site.directory / "relay")
    certificates.mount(site.authority.serving())
    relay = Relay(certificates, [site.webhook, second])
    threading.Thread(target=relay.serve_forever, daemon=True).start()
    try:
        second.wait_ready()
        site.configuration.point(relay.server_port, site.authority.certificate)
        yield relay
        assert_clean_log(second)
    finally:
        site.point_to_webhook()
        relay.shutdown()
        relay.server_close()
        second.stop()


def test_two_creations_at_once_are_allowed_and_the_loop_resolves_them(
    site: Site, world: World
) -> None:
    world.account_with_key()
    listed = world.add(PHONE, state="active")
    world.controller().wait_ready()
    with two_replicas(site) as relay, ThreadPoolExecutor(2) as threads:
        eventually(lambda: asked(site, relay), "the API server calls the relay", PATIENCE)
        made = list(threads.map(lambda name: world.declare(name, PHONE), ("first", "second")))
        assert [each["response"]["allowed"] for each in relay.answers] == [True, True]
        assert len({each["by"] for each in relay.answers}) == 2

    def seniority(body: JSON) -> tuple[str, str]:
        return body["metadata"]["creationTimestamp"], body["metadata"]["uid"]

    older, younger = (body["metadata"]["name"] for body in sorted(made, key=seniority))
    status = world.wait_reason(younger, "DuplicatePhoneNumber", seconds=PATIENCE)
    assert "channelID" not in status
    assert world.wait_reason(older, "Active", seconds=PATIENCE)["channelID"] == listed.id
