"""What kubectl is told: refusals, warnings, and what passes whatever the webhook does."""

import itertools
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from dev.controlplane.plane import ControlPlane
from dev.processes.port import free_port
from tests.integration.harness.api import JSON, Api, ApiError, account, channel, eventually
from tests.integration.harness.webhook import (
    IMPOSSIBLE,
    PATIENCE,
    USER,
    Authority,
    CertificateDirectory,
    Configuration,
    Webhook,
    of_chart,
)
from tests.integration.harness.world import ROOT, World, served
from wazzup_simulator.client import Simulator

PHONE = "+79865784457"
OTHER_PHONE = "+79990001122"
FAILED_OPEN = "failed-open.validating.webhook.admission.k8s.io/round_0_index_0"
_names = itertools.count()

Kubectl = subprocess.CompletedProcess[str]


@dataclass
class Site:
    """A control plane whose API server asks a webhook."""

    plane: ControlPlane
    directory: Path
    authority: Authority
    webhook: Webhook
    configuration: Configuration

    @classmethod
    @contextmanager
    def open(cls, plane: ControlPlane, directory: Path) -> Iterator["Site"]:
        api = Api(plane.kubeconfig)
        authority = Authority()
        webhook = Webhook(
            of_chart(plane),
            directory / "webhook",
            authority,
            "--min-poll-interval=30s",
            "--log-level=debug",
        )
        site = cls(plane, directory, authority, webhook, Configuration(api))
        webhook.start()
        try:
            webhook.wait_ready()
            site.point_to_webhook()
            yield site
            tell_no_numbers(webhook)
        finally:
            site.configuration.remove()
            webhook.stop()

    def point_to_webhook(self) -> None:
        self.configuration.point(self.webhook.port, self.authority.certificate)
        self.configuration.wait_refusing()

    def world(self) -> World:
        """Return a new namespace."""
        name = f"admission-{next(_names)}-{time.monotonic_ns() % 10**6}"
        Api(self.plane.kubeconfig).request(
            "POST", "api/v1/namespaces", {"metadata": {"name": name}}
        )
        api = Api(self.plane.kubeconfig, name)
        return World(self.plane, Simulator(""), api, self.directory, name)


def tell_no_numbers(webhook: Webhook) -> None:
    """Search everything that the webhook printed for numbers and traces."""
    log = webhook.log()
    assert "Traceback" not in log
    assert re.findall(r"\d{8,}", log) == []


@pytest.fixture(scope="module")
def site(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The session's control plane, whose CRDs are as they are."""
    with Site.open(plane, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def loose_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A control plane whose CRDs have no CEL rules: nothing is refused but by the handlers."""
    with ControlPlane(tmp_path_factory.mktemp("loose-plane")) as plane:
        api = Api(plane.kubeconfig)
        for file in sorted((ROOT / "crds").glob("*.yaml")):
            definition = yaml.safe_load(file.read_text())
            assert without_rules(definition) > 0
            api.request(
                "POST", "apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition
            )
        eventually(lambda: served(api), "the kinds are served", PATIENCE)
        with Site.open(plane, tmp_path_factory.mktemp("loose-site")) as site:
            yield site


def without_rules(schema: Any) -> int:
    """Take the CEL rules out of a definition; return how many lists of them there were."""
    if isinstance(schema, list):
        return sum(map(without_rules, schema))
    if not isinstance(schema, dict):
        return 0
    found = schema.pop("x-kubernetes-validations", None) is not None
    return found + sum(map(without_rules, schema.values()))


@pytest.fixture
def strict(site: Site) -> World:
    return site.world()


@pytest.fixture
def loose(loose_site: Site) -> World:
    return loose_site.world()


def spec_of(world: World, kind: str, name: str) -> JSON:
    spec: JSON = world.api.get(kind, name)["spec"]
    return spec


def refused(done: Kubectl, *sentences: str) -> None:
    assert done.returncode == 1, done.stdout
    assert "denied the request" in done.stderr
    for sentence in sentences:
        assert sentence in done.stderr


def let_in(done: Kubectl, *sentences: str) -> None:
    assert done.returncode == 0, done.stderr
    for sentence in sentences:
        assert f"Warning: {sentence}" in done.stderr


def in_silence(done: Kubectl) -> None:
    let_in(done)
    assert "Warning" not in done.stderr


CREATE_WAYS = {
    "create": ["create", "-f", "-"],
    "apply": ["apply", "-f", "-"],
    "apply --server-side": ["apply", "--server-side", "-f", "-"],
    "create --dry-run=server": ["create", "--dry-run=server", "-f", "-"],
    "apply --server-side --dry-run=server": [
        *("apply", "--server-side", "--dry-run=server", "-f", "-")
    ],
}
UPDATE_WAYS = {
    "apply": ["apply", "-f", "-"],
    "apply --server-side": ["apply", "--server-side", "-f", "-"],
    "patch": ["patch", "-f", "-", "--type=json"],
    "replace": ["replace", "-f", "-"],
    "apply --dry-run=server": ["apply", "--dry-run=server", "-f", "-"],
    "patch --dry-run=server": ["patch", "-f", "-", "--type=json", "--dry-run=server"],
}


def change(world: World, way: str, old: JSON, new: JSON) -> Kubectl:
    """Make an object, past the webhook's warnings, and change it in this way."""
    first = "apply --server-side" if way == "apply --server-side" else "apply"
    let_in(world.kubectl(*CREATE_WAYS[first], stdin=json.dumps(old)))
    words = list(UPDATE_WAYS[way])
    if words[0] == "patch":
        patch = [{"op": "replace", "path": "/spec", "value": new["spec"]}]
        words.append(f"--patch={json.dumps(patch)}")
    return world.kubectl(*words, stdin=json.dumps(new))


class Changed(NamedTuple):
    """A change of a WazzupChannel's spec, and what is said of it."""

    old: JSON
    new: JSON
    sentence: str


ANOTHER = "create another WazzupChannel for the new one, and set spec.active to false here"
DENIED_CHANGES = {
    "phone-number-changed": Changed(
        {},
        {"phoneNumber": OTHER_PHONE},
        f"spec.phoneNumber cannot be changed from {PHONE}: a channel keeps its number for ever. To"
        f" use a new number, {ANOTHER} to stop using the old one.",
    ),
    "transport-changed": Changed(
        {},
        {"transport": "wapi"},
        f"spec.transport cannot be changed from whatsapp: {ANOTHER}.",
    ),
    "channel-id-changed": Changed(
        {"channelID": "one"},
        {"channelID": "two"},
        "spec.channelID cannot be changed or taken away once it is set, unless spec.accountRef"
        " changes too; it is one. Put it back, or delete this object and create it anew: deleting"
        " it deletes nothing in Wazzup.",
    ),
    "channel-id-changed (taken away)": Changed(
        {"channelID": "one"},
        {},
        "spec.channelID cannot be changed or taken away once it is set, unless spec.accountRef"
        " changes too; it is one. Put it back, or delete this object and create it anew: deleting"
        " it deletes nothing in Wazzup.",
    ),
}


@pytest.mark.parametrize("way", UPDATE_WAYS)
@pytest.mark.parametrize("rule", DENIED_CHANGES)
def test_a_changed_identity_is_refused_by_the_handler_too(
    loose: World, rule: str, way: str
) -> None:
    case = DENIED_CHANGES[rule]
    old = channel("support", PHONE, **case.old)
    new = channel("support", **{"phone": PHONE} | _renamed(case.new))
    refused(change(loose, way, old, new), case.sentence)
    spec = spec_of(loose, "wazzupchannel", "support")
    assert spec["phoneNumber"] == PHONE
    assert spec.items() >= case.old.items()


@pytest.mark.parametrize("way", UPDATE_WAYS)
@pytest.mark.parametrize("fields", [{"channelID": "two"}, {}], ids=["changed", "taken away"])
def test_a_channel_id_may_change_with_the_account(
    site: Site, loose_site: Site, fields: JSON, way: str
) -> None:
    """Neither CEL nor the handler refuses it, each asked alone as well."""
    there = {"accountRef": {"name": "second"}, **fields}
    old, new = channel("support", PHONE, channelID="one"), channel("support", PHONE, **there)
    for world in (site.world(), loose_site.world()):
        world.api.create(account("second", pollInterval="60s"))
        in_silence(change(world, way, old, new))
        spec = spec_of(world, "wazzupchannel", "support")
        if "--dry-run=server" not in way:
            assert (spec["accountRef"], spec.get("channelID")) == (
                there["accountRef"],
                there.get("channelID"),
            )


def _renamed(fields: JSON) -> JSON:
    return {("phone" if key == "phoneNumber" else key): value for key, value in fields.items()}


def test_with_the_crds_as_they_are_cel_speaks_first_and_says_the_same(strict: World) -> None:
    for fields in ({"phone": OTHER_PHONE}, {"phone": PHONE, "transport": "wapi"}):
        done = change(strict, "apply", channel("support", PHONE), channel("support", **fields))
        assert done.returncode == 1
        assert "denied the request" not in done.stderr
        assert "create another WazzupChannel" in done.stderr


WARNED_CHANGES = {
    "active-switched": Changed(
        {},
        {"active": False},
        "The operator cannot switch channels: a person has to turn off this one in Wazzup.",
    ),
    "active-switched (on)": Changed(
        {"active": False},
        {"active": True},
        "The operator cannot switch channels: a person has to enable this one in Wazzup.",
    ),
    "renamed": Changed(
        {},
        {"displayName": "Support"},
        'The operator cannot rename channels: a person has to name this one "Support" in Wazzup;'
        " until then status.drift shows the difference.",
    ),
    "account-missing": Changed(
        {},
        {"channelID": "one"},
        'There is no WazzupAccount "default" in this namespace yet; until there is, nothing can be'
        " told of this channel.",
    ),
    "account-missing (the new one)": Changed(
        {},
        {"accountRef": {"name": "second"}},
        'There is no WazzupAccount "second" in this namespace yet; until there is, nothing can be'
        " told of this channel.",
    ),
}


@pytest.mark.parametrize("way", UPDATE_WAYS)
@pytest.mark.parametrize("rule", WARNED_CHANGES)
def test_a_change_that_a_person_has_to_follow_is_warned_of(
    strict: World, rule: str, way: str
) -> None:
    case = WARNED_CHANGES[rule]
    old, new = channel("support", PHONE, **case.old), channel("support", PHONE, **case.new)
    let_in(change(strict, way, old, new), case.sentence)
    dry = "--dry-run=server" in way
    assert (
        spec_of(strict, "wazzupchannel", "support").items()
        >= (case.old if dry else case.new).items()
    )


def test_a_name_that_ends_in_a_new_line_is_warned_of_all_the_same(strict: World) -> None:
    furnish(strict)
    patch = json.dumps({"spec": {"displayName": "Support\n"}})
    done = strict.kubectl("patch", "wazzupchannel", "support", "--type=merge", f"--patch={patch}")
    let_in(done, r'The operator cannot rename channels: a person has to name this one "Support\n"')


def test_who_follows_what_is_the_case_already_is_not_warned(strict: World) -> None:
    furnish(strict)
    strict.api.patch("wazzupchannel", "support", {"status": {"state": "Off"}}, "status")
    patch = '--patch={"spec": {"active": false}}'
    in_silence(strict.kubectl("patch", "wazzupchannel", "support", "--type=merge", patch))


SHORT_INTERVAL = (
    "spec.pollInterval 10s is below this operator's minimum of 30s, which is used instead."
)


@pytest.mark.parametrize("way", UPDATE_WAYS)
def test_a_short_interval_is_warned_of_when_it_comes(strict: World, way: str) -> None:
    old, new = account(pollInterval="60s"), account(pollInterval="10s")
    let_in(change(strict, way, old, new), SHORT_INTERVAL)
    interval = spec_of(strict, "wazzupaccount", "default")["pollInterval"]
    assert interval == ("60s" if "--dry-run=server" in way else "10s")


TAKEN = (
    f'The WazzupChannel "support" of this namespace declares {PHONE}, and one phone number is one'
    " channel. Change that object instead; or, if this one is to take its place, annotate this one"
    ' with wazzup.dev/replaces: "support" and delete that one afterwards.'
)
DENIED_NEW = {
    "number-impossible": (
        channel("new", IMPOSSIBLE),
        f"{IMPOSSIBLE} cannot be a phone number: no country has numbers that begin like this and"
        " are as long. Check the country code and count the digits.",
    ),
    "number-taken": (channel("new", PHONE), TAKEN),
}
WARNED_NEW = {
    "number-doubtful": (
        channel("new", "+70000000000"),
        "+70000000000 has the right length, but no phone company is known to give out such"
        " numbers.",
    ),
    "account-missing": (
        channel("new", OTHER_PHONE, accountRef={"name": "second"}),
        'There is no WazzupAccount "second" in this namespace yet; until there is, nothing can be'
        " told of this channel.",
    ),
    "poll-interval-short": (account("new", pollInterval="10s"), SHORT_INTERVAL),
}


def furnish(world: World) -> None:
    """Make an account and a channel."""
    world.api.create(account(pollInterval="60s"))
    world.declare("support", PHONE)


@pytest.mark.parametrize("way", CREATE_WAYS)
@pytest.mark.parametrize("rule", DENIED_NEW)
def test_a_new_object_that_is_refused(strict: World, rule: str, way: str) -> None:
    furnish(strict)
    body, sentence = DENIED_NEW[rule]
    refused(strict.kubectl(*CREATE_WAYS[way], stdin=json.dumps(body)), sentence)
    assert not strict.api.exists("wazzupchannel", "new")


@pytest.mark.parametrize("way", CREATE_WAYS)
@pytest.mark.parametrize("rule", WARNED_NEW)
def test_a_new_object_that_is_warned_of(strict: World, rule: str, way: str) -> None:
    furnish(strict)
    body, sentence = WARNED_NEW[rule]
    done = strict.kubectl(*CREATE_WAYS[way], stdin=json.dumps(body))
    let_in(done, sentence)
    assert done.stderr.count("Warning: ") == 1
    assert strict.api.exists(body["kind"].lower(), "new") == ("--dry-run=server" not in way)


def test_a_new_object_without_fault_is_let_in_in_silence(strict: World) -> None:
    furnish(strict)
    for body in (channel("new", OTHER_PHONE), account("second", pollInterval="30s")):
        in_silence(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)))


def test_a_refusal_has_the_code_that_clients_do_not_retry(strict: World) -> None:
    with pytest.raises(ApiError) as error:
        strict.declare("new", IMPOSSIBLE)
    assert error.value.status == 422


def test_a_name_that_the_api_server_makes(strict: World) -> None:
    furnish(strict)
    body = channel("new", PHONE)
    body["metadata"] = {"generateName": "support-"}
    refused(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)), TAKEN)
    body["spec"]["phoneNumber"] = OTHER_PHONE
    in_silence(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)))


def test_an_object_does_not_stand_in_its_own_way(strict: World) -> None:
    furnish(strict)
    body = json.dumps(channel("support", PHONE))
    done = strict.kubectl("create", "-f", "-", stdin=body)
    assert "AlreadyExists" in done.stderr
    let_in(strict.kubectl("apply", "-f", "-", stdin=body))
    in_silence(strict.kubectl("replace", "--force", "-f", "-", stdin=body))


def test_one_file_with_one_number_twice(strict: World) -> None:
    strict.api.create(account(pollInterval="60s"))
    bodies = [channel("support", PHONE), channel("sales", PHONE), channel("shop", OTHER_PHONE)]
    done = strict.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, bodies)))
    refused(done, TAKEN)
    names = {each["metadata"]["name"] for each in strict.api.list("wazzupchannel")}
    assert names == {"support", "shop"}


SPELLINGS = {
    "mexico": ("+525512345678", "+5215512345678"),
    "argentina": ("+541123456789", "+5491123456789"),
    "brazil": ("+551187654321", "+5511987654321"),
}


@pytest.mark.parametrize("turned", [False, True], ids=["shorter first", "longer first"])
@pytest.mark.parametrize("country", SPELLINGS)
def test_one_number_in_two_spellings_is_taken(strict: World, country: str, turned: bool) -> None:
    first, second = reversed(SPELLINGS[country]) if turned else SPELLINGS[country]
    furnish(strict)
    strict.declare("older", first)
    refused(
        strict.kubectl("create", "-f", "-", stdin=json.dumps(channel("younger", second))),
        f'The WazzupChannel "older" of this namespace declares {second}',
    )


def test_the_two_transports_of_a_number_are_two_channels(strict: World) -> None:
    furnish(strict)
    body = channel("api", PHONE, transport="wapi")
    in_silence(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)))


def test_a_number_in_another_namespace_is_nobody_s_business(site: Site, strict: World) -> None:
    furnish(site.world())
    strict.api.create(account(pollInterval="60s"))
    in_silence(strict.kubectl("create", "-f", "-", stdin=json.dumps(channel("new", PHONE))))


def test_replaces_lets_in_what_takes_an_object_s_place(strict: World) -> None:
    furnish(strict)
    for replaces in ("sales", ""):
        body = channel("new", PHONE, annotations={"wazzup.dev/replaces": replaces})
        refused(strict.kubectl("apply", "-f", "-", stdin=json.dumps(body)), TAKEN)
    body = channel("new", PHONE, annotations={"wazzup.dev/replaces": "support"})
    in_silence(strict.kubectl("apply", "-f", "-", stdin=json.dumps(body)))
    # A third object would have to replace both.
    refused(
        strict.kubectl(
            "apply", "-f", "-", stdin=json.dumps(body).replace('"name": "new"', '"name": "third"')
        ),
        'The WazzupChannels "new", "support" of this namespace declare',
        "Delete all of them but one first",
    )
    in_silence(strict.kubectl("delete", "wazzupchannel", "support"))
    assert strict.api.exists("wazzupchannel", "new")


def test_an_object_that_is_being_deleted_holds_no_number_any_more(strict: World) -> None:
    strict.api.create(account(pollInterval="60s"))
    body = channel("support", PHONE)
    body["metadata"]["finalizers"] = ["example.org/hold"]
    strict.api.create(body)
    new = json.dumps(channel("new", PHONE))
    refused(strict.kubectl("create", "-f", "-", stdin=new), TAKEN)
    strict.api.delete("wazzupchannel", "support")
    in_silence(strict.kubectl("create", "-f", "-", stdin=new))


def test_the_webhook_has_used_no_right_but_its_own(site: Site, strict: World) -> None:
    furnish(strict)
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
    "a letter is missing": ("/chanel", f'The webhook has no path "/chanel", {ONLY}'),
    "there is no path": ("", f'The webhook has no path "/", {ONLY}'),
    "the other kind's": (
        "/account",
        "The webhook's path /account is for wazzupaccounts.v1.wazzup.dev and not for"
        " wazzupchannels.v1.wazzup.dev; correct clientConfig and rules in the webhook"
        " configuration.",
    ),
}


@pytest.mark.parametrize(("path", "sentence"), TYPOS.values(), ids=TYPOS)
def test_a_typo_in_the_configuration_s_path_shows_although_failures_are_ignored(
    site: Site, strict: World, path: str, sentence: str
) -> None:
    furnish(strict)
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
        in_silence(strict.kubectl("label", "wazzupchannel", "support", "team=shop"))
        in_silence(strict.kubectl("delete", "wazzupchannel", "support"))
    finally:
        site.point_to_webhook()
    in_silence(strict.kubectl("create", "-f", "-", stdin=new))


# What passes always


@contextmanager
def up(site: Site) -> Iterator[tuple[int, bytes]]:
    yield site.webhook.port, site.authority.certificate


@contextmanager
def down(site: Site) -> Iterator[tuple[int, bytes]]:
    yield free_port(), site.authority.certificate


@contextmanager
def hanging(site: Site) -> Iterator[tuple[int, bytes]]:
    """Accept, and say nothing: the kernel does."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        yield server.getsockname()[1], site.authority.certificate


@contextmanager
def expired(site: Site) -> Iterator[tuple[int, bytes]]:
    webhook = Webhook(of_chart(site.plane), site.directory / f"expired-{next(_names)}", None)
    webhook.certificates.mount(site.authority.expired())
    webhook.start()
    try:
        webhook.wait_ready()
        yield webhook.port, site.authority.certificate
    finally:
        webhook.stop()


MODES = {each.__name__: each for each in (up, down, hanging, expired)}


class Mode(NamedTuple):
    """What the webhook does, and a namespace with objects that are wrong in every way."""

    name: str
    world: World

    def failed_open(self, verb: str, resource: str = "wazzupchannels") -> bool:
        """Return whether the last such request was let in for want of an answer."""
        writes = eventually(
            lambda: self.world.writes(verb, resource), "it is in the audit log", PATIENCE
        )
        return FAILED_OPEN in writes[-1].get("annotations", {})


@pytest.fixture(scope="module", params=MODES)
def mode(loose_site: Site, request: pytest.FixtureRequest) -> Iterator[Mode]:
    configuration = loose_site.configuration
    configuration.remove()
    eventually(configuration.lets_in, "there is no webhook", PATIENCE)
    mode = Mode(request.param, loose_site.world())
    for name in ("annotated", "replaced", "held", "deleted", "told"):
        # One impossible number, again and again, of an account that is not there.
        body = channel(name, IMPOSSIBLE)
        body["metadata"]["finalizers"] = ["example.org/hold"] if name == "held" else []
        mode.world.api.create(body)
        body = account(name, "yet-to-come", pollInterval="10s")
        body["metadata"]["finalizers"] = ["example.org/hold"] if name == "held" else []
        mode.world.api.create(body)
    with MODES[mode.name](loose_site) as (port, bundle):
        configuration.point(port, bundle)
        if mode.name == "up":
            configuration.wait_refusing()
        else:
            eventually(lambda: failing_open(mode), "the webhook fails", PATIENCE)
        yield mode
        loose_site.point_to_webhook()


def failing_open(mode: Mode) -> bool:
    mode.world.api.request(
        "POST",
        mode.world.api.path("wazzupchannel"),
        channel("impossible", IMPOSSIBLE),
        dryRun="All",
    )
    return mode.failed_open("create")


class Passing(NamedTuple):
    """A kind, an object of it that is stored already, and a change that would be spoken of."""

    kind: str
    stored: JSON
    change: JSON

    @property
    def resource(self) -> str:
        return f"{self.kind}s"


PASSING = [
    Passing(
        "wazzupchannel",
        channel("replaced", IMPOSSIBLE, annotations={"a": "b"}),
        {"phoneNumber": PHONE, "active": False, "displayName": "Held"},
    ),
    Passing(
        "wazzupaccount",
        account("replaced", "yet-to-come", pollInterval="10s"),
        {"pollInterval": "20s"},
    ),
]
both = pytest.mark.parametrize("case", PASSING, ids=[each.kind for each in PASSING])


@both
def test_an_update_that_leaves_the_spec_alone_passes(mode: Mode, case: Passing) -> None:
    kubectl = mode.world.kubectl
    in_silence(kubectl("annotate", case.kind, "annotated", "wazzup.dev/paused=true"))
    in_silence(kubectl("label", case.kind, "annotated", "team=shop"))
    assert not mode.failed_open("patch", case.resource)
    body = case.stored | {"metadata": {"name": "replaced", "annotations": {"a": "b"}}}
    in_silence(kubectl("replace", "-f", "-", stdin=json.dumps(body)))
    assert not mode.failed_open("update", case.resource)


@both
def test_an_object_that_is_being_deleted_may_be_changed_and_go(mode: Mode, case: Passing) -> None:
    kubectl, api = mode.world.kubectl, mode.world.api
    in_silence(kubectl("delete", case.kind, "held", "--wait=false"))
    for change in ({"spec": case.change}, {"metadata": {"finalizers": None}}):
        assert api.exists(case.kind, "held")
        patch = f"--patch={json.dumps(change)}"
        in_silence(kubectl("patch", case.kind, "held", "--type=merge", patch))
        assert not mode.failed_open("patch", case.resource)
    assert not api.exists(case.kind, "held")


@both
def test_a_deletion_passes(mode: Mode, case: Passing) -> None:
    in_silence(mode.world.kubectl("delete", case.kind, "deleted"))
    assert not mode.failed_open("delete", case.resource)
    assert not mode.world.api.exists(case.kind, "deleted")


@both
def test_a_status_passes(mode: Mode, case: Passing) -> None:
    patch = '--patch={"status": {"observedGeneration": 7}}'
    words = ["patch", case.kind, "told", "--subresource=status", "--type=merge", patch]
    in_silence(mode.world.kubectl(*words))
    assert not mode.failed_open("patch", case.resource)
    assert mode.world.status("told", case.kind)["observedGeneration"] == 7


def test_a_channel_without_its_account_passes(mode: Mode) -> None:
    body = channel("early", OTHER_PHONE, accountRef={"name": "yet-to-come"})
    done = mode.world.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    let_in(done)
    assert mode.failed_open("create") == (mode.name != "up")
    assert ("Warning" in done.stderr) == (mode.name == "up")
    assert mode.world.api.exists("wazzupchannel", "early")


def test_an_account_without_its_secret_passes(mode: Mode) -> None:
    body = account("early", "yet-to-come", pollInterval="60s")
    in_silence(mode.world.kubectl("apply", "-f", "-", stdin=json.dumps(body)))
    assert mode.failed_open("create", "wazzupaccounts") == (mode.name != "up")
    assert mode.world.api.exists("wazzupaccount", "early")


# Two at once


class Relay(ThreadingHTTPServer):
    """Stands for a Service: sends reviews to each replica in turn.

    It gives two answers back only when it has both, so that neither object is stored when the
    other's number is looked up.
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
            self.server.answers.append({**json.loads(text), "by": replica.address})
            self.server.both.wait(PATIENCE)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def asked(site: Site, relay: Relay) -> bool:
    assert not site.configuration.lets_in()
    return relay.asked


@contextmanager
def two_replicas(site: Site) -> Iterator[Relay]:
    """Let the API server ask two replicas in turn."""
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
        tell_no_numbers(second)
    finally:
        site.point_to_webhook()
        relay.shutdown()
        relay.server_close()
        second.stop()


def test_two_creations_in_one_instant_are_let_in_and_the_loop_settles_it(
    site: Site, world: World
) -> None:
    world.account_with_key()
    listed = world.add(PHONE, state="active")
    world.controller().wait_ready()
    with two_replicas(site) as relay, ThreadPoolExecutor(2) as threads:
        eventually(lambda: asked(site, relay), "the API server asks the relay", PATIENCE)
        made = list(threads.map(lambda name: world.declare(name, PHONE), ("first", "second")))
        assert [each["response"]["allowed"] for each in relay.answers] == [True, True]
        assert len({each["by"] for each in relay.answers}) == 2

    def seniority(body: JSON) -> tuple[str, str]:
        return body["metadata"]["creationTimestamp"], body["metadata"]["uid"]

    older, younger = (body["metadata"]["name"] for body in sorted(made, key=seniority))
    status = world.wait_reason(younger, "DuplicatePhoneNumber", seconds=PATIENCE)
    assert "channelID" not in status
    assert world.wait_reason(older, "Active", seconds=PATIENCE)["channelID"] == listed.id
