"""Changes of stored objects: refused, allowed with a warning, and always allowed."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from dev.processes.port import free_port
from tests.admission_cases import (
    DENIED_CHANGES,
    IMPOSSIBLE,
    OTHER_PHONE,
    PHONE,
    SHORT_INTERVAL,
    WARNED_CHANGES,
)
from tests.integration.admission.site import (
    FAILED_OPEN,
    UPDATE_WAYS,
    Site,
    _names,
    add_account_and_channel,
    allowed,
    allowed_silently,
    change,
    each_rule_and_way,
    refused,
    spec_of,
)
from tests.integration.harness.api import JSON, account, channel, eventually
from tests.integration.harness.webhook import PATIENCE, Webhook, of_chart
from tests.integration.harness.world import World


@pytest.mark.parametrize(("rule", "way"), each_rule_and_way(DENIED_CHANGES, UPDATE_WAYS))
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


def test_a_channel_id_may_change_with_the_account(strict: World) -> None:
    """Neither CEL nor the handler refuses it."""
    strict.api.create(account("second", pollInterval="60s"))
    there = {"accountRef": {"name": "second"}, "channelID": "two"}
    old, new = channel("support", PHONE, channelID="one"), channel("support", PHONE, **there)
    allowed_silently(change(strict, "apply", old, new))
    assert spec_of(strict, "wazzupchannel", "support").items() >= there.items()


def _renamed(fields: JSON) -> JSON:
    return {("phone" if key == "phoneNumber" else key): value for key, value in fields.items()}


def test_cel_in_the_crds_refuses_first_with_the_same_advice(strict: World) -> None:
    for fields in ({"phone": OTHER_PHONE}, {"phone": PHONE, "transport": "wapi"}):
        done = change(strict, "apply", channel("support", PHONE), channel("support", **fields))
        assert done.returncode == 1
        assert "denied the request" not in done.stderr
        assert "another WazzupChannel" in done.stderr


@pytest.mark.parametrize(("rule", "way"), each_rule_and_way(WARNED_CHANGES, UPDATE_WAYS))
def test_a_change_that_needs_a_person_or_an_account_warns(
    strict: World, rule: str, way: str
) -> None:
    case = WARNED_CHANGES[rule]
    old, new = channel("support", PHONE, **case.old), channel("support", PHONE, **case.new)
    allowed(change(strict, way, old, new), case.sentence)
    dry = "--dry-run=server" in way
    assert (
        spec_of(strict, "wazzupchannel", "support").items()
        >= (case.old if dry else case.new).items()
    )


def test_a_name_that_ends_in_a_newline_warns_too(strict: World) -> None:
    add_account_and_channel(strict)
    patch = json.dumps({"spec": {"displayName": "Support\n"}})
    done = strict.kubectl("patch", "wazzupchannel", "support", "--type=merge", f"--patch={patch}")
    allowed(done, r'The operator cannot rename channels. Rename this one to "Support\n" in Wazzup')


def test_declaring_the_state_a_channel_is_in_does_not_warn(strict: World) -> None:
    add_account_and_channel(strict)
    strict.api.patch("wazzupchannel", "support", {"status": {"state": "Off"}}, "status")
    patch = '--patch={"spec": {"active": false}}'
    allowed_silently(strict.kubectl("patch", "wazzupchannel", "support", "--type=merge", patch))


def test_a_short_interval_warns(strict: World) -> None:
    old, new = account(pollInterval="60s"), account(pollInterval="10s")
    allowed(change(strict, "apply", old, new), SHORT_INTERVAL)


@contextmanager
def up(site: Site) -> Iterator[tuple[int, bytes]]:
    yield site.webhook.port, site.authority.certificate


@contextmanager
def down(site: Site) -> Iterator[tuple[int, bytes]]:
    yield free_port(), site.authority.certificate


@contextmanager
def hanging(site: Site) -> Iterator[tuple[int, bytes]]:
    """A port where the kernel accepts connections and nobody answers."""
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
    """What the webhook does, and a namespace of objects that break every rule."""

    name: str
    world: World

    def failed_open(self, verb: str, resource: str = "wazzupchannels") -> bool:
        """Return whether the last such request was allowed because the webhook failed."""
        writes = eventually(
            lambda: self.world.writes(verb, resource), "the request is in the audit log", PATIENCE
        )
        return FAILED_OPEN in writes[-1].get("annotations", {})


@pytest.fixture(scope="module", params=MODES)
def mode(loose_site: Site, request: pytest.FixtureRequest) -> Iterator[Mode]:
    configuration = loose_site.configuration
    configuration.remove()
    eventually(configuration.admits_impossible, "the API server calls no webhook", PATIENCE)
    mode = Mode(request.param, loose_site.world())
    for name in ("annotated", "replaced", "held", "deleted", "reported"):
        # An impossible number, declared five times, of an account that does not exist.
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
    """A kind, a stored object of it, and a change of it that breaks a rule."""

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
def test_an_update_that_leaves_the_spec_unchanged_is_allowed(mode: Mode, case: Passing) -> None:
    kubectl = mode.world.kubectl
    allowed_silently(kubectl("annotate", case.kind, "annotated", "wazzup.dev/paused=true"))
    allowed_silently(kubectl("label", case.kind, "annotated", "team=shop"))
    assert not mode.failed_open("patch", case.resource)
    body = case.stored | {"metadata": {"name": "replaced", "annotations": {"a": "b"}}}
    allowed_silently(kubectl("replace", "-f", "-", stdin=json.dumps(body)))
    assert not mode.failed_open("update", case.resource)


@both
def test_an_object_that_is_being_deleted_may_be_changed(mode: Mode, case: Passing) -> None:
    kubectl, api = mode.world.kubectl, mode.world.api
    allowed_silently(kubectl("delete", case.kind, "held", "--wait=false"))
    for changed in ({"spec": case.change}, {"metadata": {"finalizers": None}}):
        assert api.exists(case.kind, "held")
        patch = f"--patch={json.dumps(changed)}"
        allowed_silently(kubectl("patch", case.kind, "held", "--type=merge", patch))
        assert not mode.failed_open("patch", case.resource)
    assert not api.exists(case.kind, "held")


@both
def test_a_deletion_is_allowed(mode: Mode, case: Passing) -> None:
    allowed_silently(mode.world.kubectl("delete", case.kind, "deleted"))
    assert not mode.failed_open("delete", case.resource)
    assert not mode.world.api.exists(case.kind, "deleted")


@both
def test_a_status_is_allowed(mode: Mode, case: Passing) -> None:
    patch = '--patch={"status": {"observedGeneration": 7}}'
    words = ["patch", case.kind, "reported", "--subresource=status", "--type=merge", patch]
    allowed_silently(mode.world.kubectl(*words))
    assert not mode.failed_open("patch", case.resource)
    assert mode.world.status("reported", case.kind)["observedGeneration"] == 7


def test_a_channel_without_its_account_is_allowed(mode: Mode) -> None:
    body = channel("early", OTHER_PHONE, accountRef={"name": "yet-to-come"})
    done = mode.world.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    allowed(done)
    assert mode.failed_open("create") == (mode.name != "up")
    assert ("Warning" in done.stderr) == (mode.name == "up")
    assert mode.world.api.exists("wazzupchannel", "early")


def test_an_account_without_its_secret_is_allowed(mode: Mode) -> None:
    body = account("early", "yet-to-come", pollInterval="60s")
    allowed_silently(mode.world.kubectl("apply", "-f", "-", stdin=json.dumps(body)))
    assert mode.failed_open("create", "wazzupaccounts") == (mode.name != "up")
    assert mode.world.api.exists("wazzupaccount", "early")
